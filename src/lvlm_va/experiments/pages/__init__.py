"""Stub."""


def render(about, cells):
    return f"# {about['title']}\n" + "\n".join(
        c["cell"] + " " + str(c.get("failed", "ok")) for c in cells
    ) + "\n", {}
