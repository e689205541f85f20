//! Hard quotas. Mirrors `ZooKeeperServer.checkQuota`.

use super::state::QuotaState;
use crate::types::ErrorCode;

/// Whether a change by `nodes` nodes and `bytes` bytes (negative: fewer) stays within the hard limits. As in ZooKeeper
/// the usage is that of the applied tree, without outstanding changes. Soft limits refuse nothing.
///
/// # Errors
/// `QuotaExceeded` if a limit would be exceeded.
pub(super) fn check(quota: &QuotaState, nodes: i64, bytes: i64) -> Result<(), ErrorCode> {
    // The usage node was deleted, so nothing is counted and nothing refused.
    let Some(usage) = &quota.usage else { return Ok(()) };
    let exceeds = |used: i64, more: i64, limit: i64| more != 0 && limit > -1 && used.saturating_add(more) > limit;
    let limits = &quota.limits;
    if exceeds(usage.count(), nodes, limits.count_hard_limit())
        || exceeds(usage.bytes(), bytes, limits.byte_hard_limit())
    {
        return Err(ErrorCode::QuotaExceeded);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::StatsTrack;

    fn quota(limits: &str, usage: &str) -> QuotaState {
        let parse = |text: &str| StatsTrack::parse(Some(text.as_bytes()));
        QuotaState { prefix: "/a".to_owned(), limits: parse(limits), usage: Some(parse(usage)) }
    }

    #[test]
    fn only_hard_limits_refuse() {
        let q = |usage| quota("count=1,bytes=1=;byteHardLimit=12;countHardLimit=3", usage);
        assert_eq!(check(&q("count=2,bytes=10"), 1, 2), Ok(()));
        assert_eq!(check(&q("count=2,bytes=10"), 2, 0), Err(ErrorCode::QuotaExceeded));
        assert_eq!(check(&q("count=2,bytes=10"), 0, 3), Err(ErrorCode::QuotaExceeded));
        assert_eq!(check(&q("count=2,bytes=20"), 1, 0), Ok(()), "an unchanged dimension is not looked at");
        assert_eq!(check(&q("count=2,bytes=20"), 0, -1), Err(ErrorCode::QuotaExceeded), "still above the limit");
        assert_eq!(check(&quota("count=1,bytes=1", "count=9,bytes=9"), 1, i64::MAX), Ok(()), "soft limits");
        assert_eq!(check(&quota("countHardLimit=0", "count=0,bytes=0"), 1, 0), Err(ErrorCode::QuotaExceeded));
        assert_eq!(check(&QuotaState { usage: None, ..quota("countHardLimit=0", "") }, 1, 0), Ok(()));
    }
}
