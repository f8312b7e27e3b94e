"""Float models to integer models, and how good they are: calibration, scales, weights, widths, reports."""
