"""Code that the tools' scripts share: server processes (`server`), a client protocol library (`wire`), ZooKeeper's files (`disk`), load
generators (`generator`), the machine (`machine`). Each tool has a package of its own below. `tools/python` runs Python with this package."""
