"""A small signed DNS tree with encrypted resolvers on loopback: the demonstration, and the tests' fixture."""
