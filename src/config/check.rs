//! Checks that concern several settings. Mirrors the end of `QuorumPeerConfig.parseProperties`.

use super::draft::{Draft, quotation_marks};
use super::membership;

/// Checks for the keys that every zoo.cfg needs.
pub(super) fn require(draft: &mut Draft<'_>) {
    if draft.place("dataDir").is_none() {
        draft.wrong("dataDir", "is not set: add a line dataDir=/path, the directory for snapshots and logs");
    }
    if draft.place("clientPort").is_none() && draft.place("clientPortAddress").is_some() {
        draft.wrong("clientPortAddress", "is set but clientPort is not: add a line clientPort=2181");
    }
}

/// Derives the settings that were not given and checks those that were.
pub(super) fn check(draft: &mut Draft<'_>) {
    directories(draft);
    timeouts(draft);
    storage(draft);
    limits(draft);
    membership::check(draft);
}

fn directories(draft: &mut Draft<'_>) {
    if draft.config.data_log_dir.as_os_str().is_empty() {
        draft.config.data_log_dir = draft.config.data_dir.clone();
    }
    for (key, dir) in [("dataDir", draft.config.data_dir.clone()), ("dataLogDir", draft.config.data_log_dir.clone())] {
        let shown = dir.display().to_string();
        if draft.place(key).is_none() {
            continue;
        }
        if !quotation_marks(&shown).is_empty() {
            draft.warn(format!(
                "{key}={shown}: the quotation marks become part of the directory's name, and the directory is looked for where the \
                 server is started: remove them"
            ));
        } else if dir.is_relative() && !dir.starts_with(".") && !dir.starts_with("..") {
            let dir = dir.display();
            draft.warn(format!(
                "{key}={dir} is relative to where the server is started: write an absolute path, or ./{dir}"
            ));
        }
    }
}

fn timeouts(draft: &mut Draft<'_>) {
    let tick = draft.config.tick_ms;
    let given = |draft: &Draft<'_>, key, value: i32, ticks: i32| {
        if draft.place(key).is_none() || value == -1 { tick.saturating_mul(ticks) } else { value }
    };
    let min = given(draft, "minSessionTimeout", draft.config.min_session_timeout_ms, 2);
    let max = given(draft, "maxSessionTimeout", draft.config.max_session_timeout_ms, 20);
    (draft.config.min_session_timeout_ms, draft.config.max_session_timeout_ms) = (min, max);
    if min > max {
        let key = if draft.place("minSessionTimeout").is_some() { "minSessionTimeout" } else { "maxSessionTimeout" };
        let what = format!(
            "minSessionTimeout ({min} ms) must not be larger than maxSessionTimeout ({max} ms): change one of them"
        );
        draft.wrong(key, what);
    }
}

fn storage(draft: &mut Draft<'_>) {
    if draft.place("jute.maxbuffer.extrasize").is_none() {
        draft.config.storage.jute_max_buffer_extra = draft.config.storage.jute_max_buffer;
    }
    let retain = draft.config.storage.purge_retain;
    if retain < 3 {
        draft.config.storage.purge_retain = 3;
        draft.warn(format!("Invalid autopurge.snapRetainCount: {retain}. Defaulting to 3"));
    }
    let snap_count = draft.config.storage.snap_count;
    if snap_count < 2 {
        draft.config.storage.snap_count = 2;
        draft.warn(format!("snapCount should be 2 or more. It was {snap_count} and is reset to 2"));
    }
    let commit_log = draft.config.ensemble.commit_log_count;
    if commit_log < 500 {
        draft.config.ensemble.commit_log_count = 500;
        draft.warn(format!("commitLogCount should be at least 500. It was {commit_log} and is reset to 500"));
    }
    if !draft.config.storage.force_sync {
        draft.warn("forceSync=no: acknowledged writes can be lost when the machine fails");
    }
    if draft.config.auth.skip_acl {
        draft.warn("skipACL=yes: ACLs are ignored, every client may do everything");
    }
}

fn limits(draft: &mut Draft<'_>) {
    let threshold = draft.config.limits.large_request_threshold_bytes;
    if threshold < 1 && threshold != -1 {
        draft.config.limits.large_request_threshold_bytes = -1;
        draft.warn(format!("largeRequestThreshold should be -1 or positive. It was {threshold} and is set to -1, off"));
    }
    if draft.config.auth.enforce && draft.config.auth.enforced_schemes.is_empty() {
        draft.wrong(
            "enforce.auth.enabled",
            "is true but enforce.auth.schemes is not set: add a line such as enforce.auth.schemes=digest",
        );
    }
    if !draft.config.auth.ensemble_names.is_empty() && !draft.config.auth.ensemble {
        draft.warn(
            "ensembleAuthName has no effect without its provider: add \
             authProvider.1=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider",
        );
    }
    let words = &mut draft.config.limits.four_letter_words;
    if draft.config.ensemble.read_only_mode && !words.iter().any(|w| w == "*" || w == "isro") {
        words.push("isro".into());
    }
    let ensemble = &draft.config.ensemble;
    if ensemble.min_notification_interval_ms > ensemble.max_notification_interval_ms {
        draft.wrong("fastleader.minNotificationInterval", "must not be larger than fastleader.maxNotificationInterval");
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::quorum::Role;

    #[test]
    fn values_that_are_mended_with_a_warning() {
        let text = "clientPort=1\nautopurge.snapRetainCount=1\nsnapCount=1\ncommitLogCount=5\nlargeRequestThreshold=0\n\
                    peerType=observer\nforceSync=no\nskipACL=yes";
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("zoo.cfg");
        std::fs::write(&path, format!("dataDir={}\n{text}", dir.path().display())).expect("written");
        let (config, warnings) = Config::load(&path, &[]).expect("is good");
        assert_eq!((config.storage.purge_retain, config.storage.snap_count), (3, 2));
        assert_eq!(config.ensemble.commit_log_count, 500);
        assert_eq!(config.limits.large_request_threshold_bytes, -1);
        assert_eq!(config.ensemble.peer_type, Role::Participant);
        let all: Vec<&str> = warnings.iter().map(|w| w.0.as_str()).collect();
        let all = all.join("\n");
        for part in [
            "snapRetainCount: 1. Defaulting to 3",
            "snapCount",
            "commitLogCount",
            "doesn't match peerType",
            "forceSync=no",
            "skipACL=yes",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }

    #[test]
    fn read_only_mode_answers_isro() {
        let config = Config::embedded(&[("readonlymode.enabled".into(), "true".into())]).expect("is good").0;
        assert_eq!(config.limits.four_letter_words, ["srvr", "isro"]);
    }

    #[test]
    fn relative_directories_are_warned_of() {
        let warned = |dir: &str| {
            let properties = [("dataDir".to_string(), dir.to_string())];
            let warnings = Config::embedded(&properties).expect("is good").1;
            warnings.into_iter().map(|w| w.0).collect::<Vec<_>>().join("\n")
        };
        assert!(warned("data").contains("relative"));
        assert!(["./data", "../data", "/data"].iter().all(|dir| warned(dir).is_empty()));
        for quoted in ["\"/data\"", "'/data'"] {
            assert!(
                warned(quoted).contains("quotation marks become part of the directory's name"),
                "{}",
                warned(quoted)
            );
        }
    }
}
