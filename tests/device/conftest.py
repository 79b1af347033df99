"""The device is made known before the first test of the process.

Autograd starts its threads, one a device, in the first backward pass, and not again for a device that comes later.
"""

from pretend import register

register()
