#!/usr/bin/env bash
# A new Deformable DETR of Transformers looks for every object at the centre of the image.
#
# In the published code the queries are drawn from N(0, 1), so that their reference points are spread over the image and each looks for
# objects near a place of its own. Transformers draws them, as all embeddings, with a deviation of 0.02 (initializer_range): 300 reference
# points lie within some 0.02 of the centre. Nothing is said, the loss falls, and objects are found late or never; released weights are
# not touched. Mask2Former of the same version keeps the published deviation of 1, so one cannot go by another head of the library.
#
# Seen with transformers 5.24.0, torch 2.13.0, Python 3.11:
# DeformableDetr: queries drawn with a deviation of 0.020; reference points spread by 0.007 of the image
# Mask2Former: queries drawn with a deviation of 1.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 transformers==5.24.0 scipy==1.17.1 numpy==2.4.6
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PY'
import torch
from transformers import DeformableDetrConfig, DeformableDetrModel, Mask2FormerConfig, Mask2FormerModel, ResNetConfig, SwinConfig

torch.manual_seed(0)
small = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"])
net = DeformableDetrModel(DeformableDetrConfig(backbone_config=small, use_timm_backbone=False, encoder_layers=1, decoder_layers=1))
queries = net.query_position_embeddings.weight.std().item()
with torch.no_grad():
    points = net.eval()(torch.randn(1, 3, 64, 64)).init_reference_points[0]
spread = points.std(0).max().item()
print(f"DeformableDetr: queries drawn with a deviation of {queries:.3f}; reference points spread by {spread:.3f} of the image")

swin = SwinConfig(embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"])
other = Mask2FormerModel(Mask2FormerConfig(backbone_config=swin, encoder_layers=1, decoder_layers=2))
drawn = other.transformer_module.queries_embedder.weight.std().item()
print(f"Mask2Former: queries drawn with a deviation of {drawn:.2f}")
assert queries < 0.03 and spread < 0.05, "queries start elsewhere now"
assert 0.9 < drawn < 1.1, "Mask2Former starts otherwise now"
PY
