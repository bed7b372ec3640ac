"""Boxes around a mask's regions, for losses that want objects where only masks are labelled."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

MIN_SHARE = 1e-3  # of the image's area: specks are no objects


def region_boxes(masks: Tensor, background: int | None) -> Tensor:
    """Box the connected regions of every class.

    Args:
        masks: (N, H, W) class ids; 255 is no class.
        background: Class that is no object, or None.

    Returns:
        (M, 5): the image's index, then x1, y1, x2, y2 as fractions of its sides.

    """
    rows = []
    for index, mask in enumerate(masks.cpu().numpy()):
        height, width = mask.shape
        for kind in np.setdiff1d(np.unique(mask), [255] if background is None else [255, background]):
            _, _, stats, _ = cv2.connectedComponentsWithStats((mask == kind).astype(np.uint8))
            for left, top, w, h, area in stats[1:]:  # the first is what is not this class
                if area >= MIN_SHARE * height * width:
                    rows.append([index, left / width, top / height, (left + w) / width, (top + h) / height])
    return torch.tensor(rows, dtype=torch.float32, device=masks.device).view(-1, 5)
