"""Trained networks as files that run without lmsearch: ONNX and torch.export, each with a certificate of what it computes."""
