"""Sources of images: drawn, from a folder, or through torchvision; in memory or streamed."""
