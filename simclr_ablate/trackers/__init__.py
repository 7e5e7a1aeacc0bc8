"""Trackers: the metrics of runs in TensorBoard, Weights & Biases, Trackio or MLflow, beside the store."""
