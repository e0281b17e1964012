//! What a Redis' settings could cost: read at start, told to the operator, changed by nobody.

use std::collections::HashMap;

/// What is asked for.
pub(super) const NAMES: [&str; 6] = [
    "appendonly",
    "appendfsync",
    "maxmemory",
    "maxmemory-policy",
    "min-replicas-to-write",
    "min-replicas-max-lag",
];

/// Each setting that is weaker than `configs/redis.conf`, and what could be lost by it. `replicas`: how many follow;
/// `waits`: for how many of them every answer waits.
pub(super) fn weaknesses(settings: &HashMap<String, String>, replicas: u64, waits: u32) -> Vec<String> {
    let is = |name: &str, wanted: &str| settings.get(name).is_none_or(|value| value == wanted);
    let mut found = Vec::new();
    if !is("appendonly", "yes") {
        found.push(
            "appendonly is not yes: when Redis ends, all holds since its last snapshot are lost there, and each sale \
             stands still until it is rebuilt from the ledger"
                .to_owned(),
        );
    } else if !is("appendfsync", "always") {
        found.push(
            "appendfsync is not always: a crash of its machine loses the last second of acknowledged holds there, and \
             each sale stands still until it is rebuilt from the ledger"
                .to_owned(),
        );
    }
    if !is("maxmemory", "0") && !is("maxmemory-policy", "noeviction") {
        found.push(
            "maxmemory-policy is not noeviction: when memory runs out, Redis throws away stock and holds in the middle \
             of a sale"
                .to_owned(),
        );
    }
    if replicas > 0 && waits == 0 {
        found.push(format!(
            "it has {replicas} replicas and store.gate_wait_replicas is 0: when one takes over, the last acknowledged \
             holds are lost there, and each sale stands still until it is rebuilt from the ledger"
        ));
    }
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<u64>().ok());
    let goes_on = |name: &str, value: u64| {
        format!(
            "{name} is {value}: a primary that was cut off from its replicas goes on taking holds, each of which is \
             answered \"pending\" and lost when it comes back as a replica"
        )
    };
    if waits > 0 {
        match (number("min-replicas-to-write"), number("min-replicas-max-lag")) {
            (Some(least), _) if least < u64::from(waits) => {
                found.push(goes_on("min-replicas-to-write", least))
            }
            // Which turns the other one off.
            (_, Some(0)) => found.push(goes_on("min-replicas-max-lag", 0)),
            _ => {}
        }
    }
    if u64::from(waits) > replicas {
        found.push(format!(
            "store.gate_wait_replicas is {waits} and it has {replicas} replicas: no hold can be acknowledged"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(settings: &[(&str, &str)], replicas: u64, waits: u32) -> Vec<String> {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        weaknesses(&settings, replicas, waits)
    }

    const SOUND: [(&str, &str); 6] = [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("min-replicas-to-write", "1"),
        ("min-replicas-max-lag", "10"),
    ];

    #[test]
    fn each_weaker_setting_is_named_with_what_it_costs() {
        assert_eq!(told(&SOUND, 0, 0), [""; 0]);
        assert_eq!(told(&SOUND, 2, 1), [""; 0]);
        assert_eq!(told(&[], 0, 0), [""; 0], "nothing is said of what could not be read");
        for (name, value) in [("appendonly", "no"), ("appendfsync", "everysec")] {
            let settings =
                SOUND.map(|(known, good)| if known == name { (name, value) } else { (known, good) });
            let told = told(&settings, 0, 0);
            assert!(told.len() == 1 && told[0].starts_with(name), "{told:?}");
        }
        let full = [("maxmemory", "1000000"), ("maxmemory-policy", "allkeys-lru")];
        assert!(told(&full, 0, 0)[0].starts_with("maxmemory-policy"));
        assert!(told(&SOUND, 1, 0)[0].starts_with("it has 1 replicas"));
        assert!(told(&[("min-replicas-to-write", "0")], 1, 1)[0].starts_with("min-replicas-to-write is 0"));
        assert!(told(&SOUND, 2, 2)[0].starts_with("min-replicas-to-write is 1"));
        let lax = [("min-replicas-to-write", "1"), ("min-replicas-max-lag", "0")];
        assert!(told(&lax, 1, 1)[0].starts_with("min-replicas-max-lag is 0"));
        assert!(told(&SOUND, 1, 2)[1].starts_with("store.gate_wait_replicas is 2"));
    }
}
