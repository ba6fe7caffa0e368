"""Who may resolve what: rules, lists and their indexes, and the engine that judges questions and answers. No I/O."""
