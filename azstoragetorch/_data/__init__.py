"""What both datasets are made of; private, in the layer of the faces."""
