"""What a frozen encoder is worth: features and the classifiers fitted on them."""
