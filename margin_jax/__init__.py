"""margin_jax: the classification margins of every training example, in JAX and Flax.

Importing the package imports nothing else, so the plots read run folders without JAX and a user who wants one pure
function pays for one module.
"""

__version__ = "0.1.0"
