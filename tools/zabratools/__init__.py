"""What the tools' scripts share: servers as processes (`server`), the client protocol by hand (`wire`), ZooKeeper's files (`disk`), load
generators (`generator`), the machine (`machine`); below, a package for each tool. `tools/python` is Python with this package."""
