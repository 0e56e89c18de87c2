from ccsweep.app import main

main()
