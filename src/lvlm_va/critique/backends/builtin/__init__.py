"""The built-in critic, in the order in which an image passes through it.

colours, letters   how a person would name a colour; what is written in the image
scene              the image taken apart into a ground and the things that stand out from it
measures           place, shape, brightness, colour, contrast of each
concepts, encoder  what phrases can mean in terms of measurements
phrases, weighing  what the expert asks for and rules out, weighed against each region
assessment         what each segment holds, and its score
language, critic   the critique in plain sentences; the backend
"""

from lvlm_va.critique.backends.builtin.critic import BuiltinCritic, thing_named

__all__ = ["BuiltinCritic", "thing_named"]
