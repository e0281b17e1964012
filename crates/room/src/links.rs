//! What an app or a reader would take for a web address.
//!
//! An address is found wherever it stands in the text, whatever is around it: labels with dots between, of which the last
//! is one that addresses end with. Those are all of two letters, since countries have most of these, and the longer ones
//! that are in use for shops and links; behind any other, a path says that it is an address. So `Mr.Smith`, `12.5kg`, `3.50`
//! and `e.g.` may be written.

use crate::words::{fold, plain};

/// The longer endings.
const ENDINGS: &[&str] = &[
    "app", "asia", "bio", "biz", "blog", "buzz", "cash", "cc", "center", "chat", "city", "click", "cloud",
    "club", "com", "company", "deals", "delivery", "design", "dev", "digital", "email", "fashion", "fun",
    "gift", "gifts", "global", "group", "guru", "info", "ink", "io", "jobs", "life", "link", "live", "ltd",
    "market", "media", "mobi", "money", "name", "net", "network", "news", "one", "online", "org", "page",
    "press", "pro", "promo", "sale", "sbs", "shop", "shopping", "site", "social", "space", "store", "stream",
    "studio", "style", "support", "team", "tech", "tel", "today", "tokyo", "top", "trade", "uno", "video",
    "vip", "wang", "watch", "website", "wiki", "win", "work", "works", "world", "xyz", "zone",
];
/// Endings in other scripts.
const FOREIGN_ENDINGS: &[&str] = &[
    "中国",
    "中國",
    "公司",
    "商城",
    "商店",
    "商标",
    "在线",
    "集团",
    "网络",
    "網絡",
    "网址",
    "网店",
    "香港",
    "台湾",
    "台灣",
    "新加坡",
    "世界",
    "рф",
    "рус",
    "онлайн",
    "сайт",
    "бел",
    "укр",
    "срб",
    "한국",
    "닷컴",
    "コム",
    "ストア",
    "みんな",
    "ไทย",
];
/// What follows a number and a dot without making an address of it.
const UNITS: &[&str] = &[
    "am", "cl", "cm", "dl", "ft", "gb", "in", "kb", "kg", "km", "lb", "mb", "mg", "ml", "mm", "oz", "pm",
    "tb",
];

/// Whether the text has one.
pub fn has_link(text: &str) -> bool {
    let folded: Vec<char> = fold(text).collect();
    // Letters of other alphabets that look like these are read as these.
    let looks: Vec<char> = folded.iter().map(|c| plain(*c)).collect();
    let is_dot = |at: usize| matches!(looks[at], '.' | '。');
    text.contains("://")
        || looks.windows(3).any(|three| three == [':', '/', '/'])
        || (1..looks.len()).any(|at| {
            is_dot(at)
                && (is_address(&looks[..at], &looks[at + 1..])
                    || folded[at] == '.' && is_foreign_address(&folded[..at], &folded[at + 1..])
                    || is_number(&looks, at))
        })
}

/// Whether a dot between these is the last of an address.
fn is_address(before: &[char], after: &[char]) -> bool {
    let label = label_before(before);
    let length = after.iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '-').count();
    let ending: String = after[..length].iter().collect();
    let rest = &after[length..];
    if label.is_empty() || length < 2 || !ending.chars().all(|c| c.is_ascii_alphabetic()) {
        return false;
    }
    let has_path = rest.first() == Some(&'/') && rest.get(1).is_some_and(|c| c.is_alphanumeric());
    let of_a_country =
        length == 2 && !(label.iter().all(char::is_ascii_digit) && UNITS.contains(&ending.as_str()));
    has_path || of_a_country || ENDINGS.contains(&ending.as_str())
}

/// The same in other scripts, which have no spaces that end it.
fn is_foreign_address(before: &[char], after: &[char]) -> bool {
    let letters: String = after.iter().take_while(|c| c.is_alphanumeric()).collect();
    !label_before(before).is_empty()
        && FOREIGN_ENDINGS.iter().any(|ending| {
            let spaced = letters.chars().next().is_some_and(|c| !crate::words::is_unspaced(c));
            if spaced { letters == *ending } else { letters.starts_with(ending) }
        })
}

/// Whether this is the first dot of four numbers that address a machine.
fn is_number(text: &[char], dot: usize) -> bool {
    let first = text[..dot].iter().rev().take_while(|c| c.is_ascii_digit()).count();
    let start = dot - first;
    if start > 0 && matches!(text[start - 1], '.' | '。') {
        return false;
    }
    let end = text[dot..].iter().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | '。')).count() + dot;
    let text: String = text[start..end].iter().map(|c| if *c == '。' { '.' } else { *c }).collect();
    let parts: Vec<_> = text.trim_end_matches('.').split('.').collect();
    parts.len() == 4 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

fn label_before(before: &[char]) -> &[char] {
    let length = before.iter().rev().take_while(|c| c.is_alphanumeric() || **c == '-').count();
    &before[before.len() - length..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_seen_in_their_disguises() {
        for text in [
            "see https://x.y",
            "www.shop.com",
            "go to shop.co.uk/sale now",
            "shop。com",
            "ｓｈｏｐ．ｃｏｍ",
            "(t.me/x)",
            "a@b.de",
            "http://1.2.3.4",
            "看shop.cn",
            "shop.com!",
            "去shop.com看看",
            "“shop.com”",
            "【shop.com】",
            "*shop.com*",
            "=shop.com",
            "shop.com|",
            "shop.com👍",
            "1.2.3.4",
            "例子.中国",
            "例子.com",
            "пример.рф",
            "shop.сom",
            "163.com",
            "shop.example/sale",
            "shop\u{200B}.com",
        ] {
            assert!(has_link(text), "{text}");
        }
        for text in [
            "3.50 please",
            "nice...",
            "e.g. this",
            "so good.I want it",
            "v1.2",
            "好。谢谢",
            "it is 9.99!",
            "hello.",
            "12.5kg",
            "5.kg",
            "Mr.Smith",
            "nice.Thanks",
            "等等...com",
            "我爱你。中国",
            "1.2.3",
            "300.1.2.3",
            "a.m. or p.m.",
        ] {
            assert!(!has_link(text), "{text}");
        }
    }
}
