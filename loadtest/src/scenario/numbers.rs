//! Whatever stands for a number in a scenario is refused with words, or can be planned.

use proptest::prelude::*;

use super::*;
use crate::plan::Plan;

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(text, "test.toml").map_err(|error| error.to_string())
}

#[test]
fn all_actors_of_all_lives_are_limited() {
    let groups = "[[viewers]]\ncount = 90000\n".repeat(6);
    let least = "about = \"x\"\nduration_s = 10\nlevels = [\"join.failed == 0\"]\n";
    let text = |lives: u32| format!("lives = {lives}\n{least}{groups}");
    assert!(parse(&text(1)).is_ok());
    let error = parse(&text(2)).unwrap_err();
    assert!(error.contains("1080000 actors in all are more than 1000000"), "{error}");
}

/// A number as somebody may write it.
fn anything() -> impl Strategy<Value = String> {
    let float = any::<f64>().prop_map(|value| match value {
        value if value.is_nan() => "nan".to_owned(),
        value if value.is_infinite() => "-inf".to_owned(),
        value => format!("{value:?}"),
    });
    let plain = prop_oneof![
        float,
        any::<i64>().prop_map(|value| value.to_string()),
        (0.0..120.0).prop_map(|value: f64| format!("{value:.2}")),
        (0_u32..200).prop_map(|value| value.to_string()),
        Just("0".to_owned()),
        Just("inf".to_owned()),
    ];
    let range = (plain.clone(), plain.clone()).prop_map(|(low, high)| format!("[{low}, {high}]"));
    prop_oneof![3 => plain, 1 => range]
}

/// Every number of a scenario, and one that makes sense.
const NUMBERS: &[(&str, &str)] = &[
    ("seed", "1"),
    ("duration", "20"),
    ("lives", "1"),
    ("stamp_every", "5"),
    ("away_at", "3"),
    ("away_for", "1"),
    ("viewers", "9"),
    ("join_at", "1"),
    ("join_over", "2"),
    ("join_steps", "2"),
    ("stay", "5"),
    ("return", "1"),
    ("decrypt", "0.5"),
    ("say", "2"),
    ("like", "2"),
    ("read", "100"),
    ("tap", "[0, 900]"),
    ("quantity", "1"),
    ("decide", "10"),
    ("pay", "0.5"),
    ("repeat", "0.5"),
    ("retries", "3"),
    ("pin", "3"),
    ("sale_at", "4"),
    ("stock", "5"),
    ("per_buyer", "1"),
    ("price", "100"),
    ("hold", "60"),
    ("fault_at", "5"),
    ("fault_for", "2"),
    ("fault_share", "0.5"),
    ("start", "10"),
    ("step", "5"),
    ("every", "5"),
    ("max", "30"),
    ("bound", "3"),
];

const ALL_KEYS: &str = r#"about = "x"
seed = {seed}
duration_s = {duration}
lives = {lives}
levels = ["join.failed <= {bound}"]
[publisher]
clip = "h264"
stamp_every = {stamp_every}
away = [{ at_s = {away_at}, for_s = {away_for} }]
[[viewers]]
count = {viewers}
join_at_s = {join_at}
join_over_s = {join_over}
join_steps = {join_steps}
stay_s = {stay}
return_after_s = {return}
decrypt = {decrypt}
[[chatters]]
count = {viewers}
say_every_s = {say}
like_every_s = {like}
read_every_ms = {read}
[[buyers]]
count = {viewers}
tap_after_ms = {tap}
quantity = {quantity}
decide_ms = {decide}
pay = {pay}
repeat = {repeat}
retries = {retries}
[host]
pin_every_s = {pin}
[sale]
at_s = {sale_at}
stock = {stock}
per_buyer = {per_buyer}
price_minor = {price}
hold_s = {hold}
[[faults]]
name = "x"
at_s = {fault_at}
for_s = {fault_for}
network_of_viewers = {fault_share}
"#;
const CAPACITY: &str = "[capacity]\nstart = {start}\nstep = {step}\nevery_s = {every}\nmax = {max}\n";

/// The scenario with some numbers replaced.
fn with(changed: &[(usize, String)]) -> String {
    let mut text = ALL_KEYS.to_owned();
    if changed.iter().any(|(at, _)| ["start", "step", "every", "max"].contains(&NUMBERS[*at].0)) {
        text += CAPACITY;
    }
    for (at, (name, good)) in NUMBERS.iter().enumerate() {
        let value = changed.iter().find(|(changed, _)| *changed == at).map_or(*good, |(_, value)| value);
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

#[test]
fn a_scenario_of_all_keys_is_good() {
    if let Err(error) = parse(&with(&[])) {
        panic!("{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever stands for a number is refused with words, or can be planned, drawn and told.
    #[test]
    fn no_number_of_a_scenario_does_harm(
        changed in prop::collection::vec((0..NUMBERS.len(), anything()), 1..3),
        count in any::<u32>(),
        seconds in any::<f64>(),
    ) {
        match parse(&with(&changed)) {
            Err(error) => prop_assert!(error.len() > 10),
            Ok(mut scenario) => {
                // What the command line changes is checked in the same way.
                scenario.set_count("viewers", count).unwrap();
                if scenario.check().is_err() {
                    scenario.set_count("viewers", 3).unwrap();
                }
                let known = scenario.duration_s;
                scenario.duration_s = seconds;
                if scenario.check().is_err() {
                    scenario.duration_s = known;
                }
                if scenario.check().is_ok() {
                    let plan = Plan::new(&scenario);
                    let text = crate::outline::text(&scenario, &plan);
                    prop_assert!(text.contains("What must hold"));
                    prop_assert!(plan.steps.len() as f64 <= MAX_STEPS + 100.0);
                }
            }
        }
    }
}
