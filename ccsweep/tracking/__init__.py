"""MLflow runs and where they came from.

``store`` finds and makes the place, ``run`` writes one run into it, ``find`` gets a run back,
``provenance`` says what code and machine made it, ``ui`` shows them. MLflow takes two seconds to
import, so every module here imports it only inside the functions that need it.
"""
