"""Where images come from: drawn, from a folder or through torchvision; in memory or streamed."""
