"""tools/compare/run: Apache ZooKeeper, etcd and Zabra beside one another, and one HTML report."""
