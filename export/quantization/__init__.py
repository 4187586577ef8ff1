"""int8 and half precision: how an artifact is quantized, which layers suffer, and the ladder that repairs them."""
