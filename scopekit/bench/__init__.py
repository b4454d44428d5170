"""The benchmark: scopekit beside its peers, in one run, on one machine."""
