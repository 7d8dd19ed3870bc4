"""Which workflows come with the kitchen? One file each, composed of the stages."""
