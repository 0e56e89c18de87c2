"""What a study is: its folder, storage, trials, space, objectives and front; no processes."""
