//! Which Zabra this is. Mirrors `VersionInfoMain`.

use std::sync::LazyLock;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let revision = option_env!("ZABRA_REVISION").filter(|r| !r.is_empty()).map(|r| format!(", revision {r}"));
    format!("{}, compatible with Apache ZooKeeper 3.9{}", env!("CARGO_PKG_VERSION"), revision.unwrap_or_default())
});

/// `0.1.0, compatible with Apache ZooKeeper 3.9`, and the revision if `ZABRA_REVISION` was set for the build.
pub fn version() -> &'static str {
    &VERSION
}
