"""The model as this project sees it: checkpoints, packing, attention, and the head under a temperature."""
