//! What answers to a buyer's requests mean. Pure.

use std::time::Duration;

use haul_model::UnixMillis;
use serde::Deserialize;
use serde_json::Value;

/// Whether the answer is none yet: the same is to be asked again, with the same key.
pub(super) fn is_not_now(answer: &Value) -> bool {
    matches!(answer["code"].as_str(), Some("pending" | "unavailable" | "rate_limited" | "sale_not_open"))
}

/// The hold that was granted, if one was.
pub(super) fn hold_of(answer: &Value) -> Option<&str> {
    answer["result"]["hold"]["id"].as_str()
}

/// The code of a refusal.
pub(super) fn code_of(answer: &Value) -> &str {
    answer["code"].as_str().unwrap_or("no code")
}

/// How much longer a hold stands from the moment of the answer on, by the server's clock; `None` where it has no deadline.
pub(super) fn lasts(answer: &Value) -> Option<Duration> {
    let time = |value: &Value| UnixMillis::deserialize(value).ok();
    let (until, now) =
        (time(&answer["result"]["hold"]["deadline"])?, time(&answer["result"]["server_time"])?);
    Some(Duration::from_millis(until.0.saturating_sub(now.0)))
}

/// Of two requests with one key, the second must give what the first gave. What was refused is not kept: the second may be
/// luckier, as something came back in between.
pub(super) fn same(first: &Value, then: &Value) -> Result<(), String> {
    match (hold_of(first), hold_of(then)) {
        (Some(one), Some(other)) if one != other => {
            Err(format!("two requests with one key were granted the holds {one} and {other}"))
        }
        (Some(one), None) if !is_not_now(then) => Err(format!(
            "of two requests with one key, the first was granted the hold {one}, the second refused ({})",
            code_of(then)
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn granted(hold: &str) -> Value {
        json!({ "type": "reply", "result": { "hold": { "id": hold } } })
    }

    fn refused(code: &str) -> Value {
        json!({ "type": "error", "code": code })
    }

    #[test]
    fn one_key_gives_one_hold() {
        assert_eq!(same(&granted("h1"), &granted("h1")), Ok(()));
        assert!(same(&granted("h1"), &granted("h2")).is_err_and(|why| why.contains("h1 and h2")));
        assert!(same(&granted("h1"), &refused("sold_out")).is_err_and(|why| why.contains("sold_out")));
        // Not an answer yet.
        assert_eq!(same(&granted("h1"), &refused("pending")), Ok(()));
        // Refusals are not kept.
        assert_eq!(same(&refused("not_enough"), &granted("h1")), Ok(()));
        assert_eq!(same(&refused("not_enough"), &refused("sold_out")), Ok(()));
    }

    #[test]
    fn a_hold_lasts_by_the_servers_clock() {
        let answer = |deadline: Value| json!({ "result": { "hold": { "id": "h1", "deadline": deadline }, "server_time": "2026-11-28T05:00:00.000Z" } });
        assert_eq!(lasts(&answer(json!("2026-11-28T05:00:10.500Z"))), Some(Duration::from_millis(10_500)));
        assert_eq!(lasts(&answer(json!("2026-11-28T04:00:00.000Z"))), Some(Duration::ZERO));
        assert_eq!(lasts(&answer(Value::Null)), None);
    }

    #[test]
    fn not_now_is_no_refusal() {
        assert!(is_not_now(&refused("pending")) && is_not_now(&refused("rate_limited")));
        assert!(!is_not_now(&refused("sold_out")) && !is_not_now(&granted("h1")));
    }
}
