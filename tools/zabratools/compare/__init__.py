"""tools/compare/run: measures Apache ZooKeeper, etcd and Zabra side by side and writes one HTML report."""
