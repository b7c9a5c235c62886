"""A critic of your own: python examples/own_critic.py PROJECT.yaml

Any object with a name and a method `critique` is one; it needs to import nothing of lvlm_va.
"""

import sys


class Corners:
    """Condemns what lies in the upper left corner, where this scanner stamps its number."""

    name, kind = "corners", "measurement"

    def critique(self, question):
        """Segment → (spurious, why)."""
        segments = question.explained.segments  # (H, W): 0 where no segment is, else its number
        corner = segments[: len(segments) // 4, : len(segments) // 4]
        shares = {j: float((corner == j).sum() / (segments == j).sum()) for j in question.segment_ids}
        return {j: (share > 0.5, f"{share:.0%} of it lies in the corner") for j, share in shares.items()}


if __name__ == "__main__":
    import lvlm_va

    print(lvlm_va.Project.from_yaml(sys.argv[1], critic=Corners()).align())
