//! Languages: tags after BCP 47 (RFC 5646), what a reader wants (`Accept-Language`), and what they get of what there is.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest tag accepted, in bytes (RFC 5646, 4.4.1: what a buffer must at least hold).
pub const MAX_LOCALE_BYTES: usize = 35;
/// Languages looked at in one `Accept-Language`; the rest is left out.
pub const MAX_LANGUAGES: usize = 16;

/// A language tag in its usual spelling: `en`, `pt-BR`, `zh-Hans-CN`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locale(Arc<str>);

/// Why a text is not a language tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a locale is a language tag such as en, pt-BR or zh-Hans (BCP 47), of at most {MAX_LOCALE_BYTES} bytes"
)]
pub struct LocaleError;

impl Locale {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The language alone: `zh` of `zh-Hans-CN`.
    pub fn language(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }

    /// The writing, said or implied: Chinese is read in one of two, and its regions tell which.
    fn script(&self) -> Option<&str> {
        let said = self.0.split('-').skip(1).take_while(|part| part.len() > 1).find(|part| part.len() == 4);
        said.or_else(|| {
            (self.language() == "zh").then(|| {
                match self.0.split('-').any(|part| matches!(part, "TW" | "HK" | "MO")) {
                    true => "Hant",
                    false => "Hans",
                }
            })
        })
    }
}

impl FromStr for Locale {
    type Err = LocaleError;

    fn from_str(text: &str) -> Result<Self, LocaleError> {
        let is_language =
            |part: &str| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphabetic());
        let is_part =
            |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let mut parts = text.split('-');
        let good = text.len() <= MAX_LOCALE_BYTES
            && parts.next().is_some_and(is_language)
            && parts.all(is_part)
            // A single letter announces something that must follow.
            && text.rsplit('-').next().is_some_and(|last| last.len() > 1);
        if !good {
            return Err(LocaleError);
        }
        // RFC 5646, 2.1.1: regions in capitals, writings with one, all else small; small after a single letter, too.
        let mut spelled = String::with_capacity(text.len());
        let mut plain = false;
        for (index, part) in text.split('-').enumerate() {
            if index > 0 {
                spelled.push('-');
            }
            let part = part.to_ascii_lowercase();
            match part.len() {
                2 if index > 0 && !plain => spelled.push_str(&part.to_ascii_uppercase()),
                4 if index > 0 && !plain => {
                    spelled.push_str(&part[..1].to_ascii_uppercase());
                    spelled.push_str(&part[1..]);
                }
                _ => spelled.push_str(&part),
            }
            plain |= part.len() == 1;
        }
        Ok(Self(spelled.into()))
    }
}

impl TryFrom<String> for Locale {
    type Error = LocaleError;

    fn try_from(text: String) -> Result<Self, LocaleError> {
        text.parse()
    }
}

impl From<Locale> for String {
    fn from(locale: Locale) -> String {
        locale.0.as_ref().to_owned()
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl schemars::JsonSchema for Locale {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Locale".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "maxLength": MAX_LOCALE_BYTES, "pattern": "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$",
            "description": "BCP 47 language tag"
        })
    }
}

/// What a reader reads, what they like best first. Empty: no wish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Languages(Vec<Locale>);

impl Languages {
    /// Of an `Accept-Language` (RFC 9110, 12.5.4). What can't be read in it is left out, as is what has the weight 0;
    /// `*` stands for anything, and so for no wish.
    pub fn accepted(header: &str) -> Self {
        let mut wanted: Vec<(u32, Locale)> = Vec::new();
        for range in header.split(',').take(MAX_LANGUAGES) {
            let mut parts = range.split(';');
            let Ok(locale) = parts.next().unwrap_or_default().trim().parse() else { continue };
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q=").map(str::trim))
                .map_or(Some(1.0), |q| q.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)));
            // Three digits at most are allowed, so thousandths are exact.
            let weight = weight.map_or(0, |q| (q * 1000.0).round() as u32);
            if weight > 0 {
                wanted.push((weight, locale));
            }
        }
        wanted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        Self(wanted.into_iter().map(|(_, locale)| locale).collect())
    }

    /// Of a single wish.
    pub fn one(locale: Locale) -> Self {
        Self(vec![locale])
    }

    /// The best of `there` for this reader. For each wish in turn: the tag itself, or it with parts cut off its end
    /// (RFC 4647, 3.4: `de-AT` is served by `de`); then the same language in the same writing, then in any (`pt` is
    /// served by `pt-BR`). Otherwise `fallback`.
    pub fn best<'a>(
        &self,
        there: impl Iterator<Item = &'a Locale> + Clone,
        fallback: &'a Locale,
    ) -> &'a Locale {
        self.find(there).unwrap_or(fallback)
    }

    /// The same; `None` where nothing of `there` is in a language of this reader's.
    pub fn find<'a>(&self, there: impl Iterator<Item = &'a Locale> + Clone) -> Option<&'a Locale> {
        for wish in &self.0 {
            let mut tag = wish.as_str();
            loop {
                let same = |locale: &&Locale| locale.as_str() == tag && locale.script() == wish.script();
                if let Some(found) = there.clone().find(same) {
                    return Some(found);
                }
                let Some((shorter, _)) = tag.rsplit_once('-') else { break };
                // What a single letter announces goes with it.
                tag = match shorter.rsplit_once('-') {
                    Some((before, last)) if last.len() == 1 => before,
                    _ => shorter,
                };
            }
            let kin = || there.clone().filter(|locale| locale.language() == wish.language());
            if let Some(found) =
                kin().find(|locale| locale.script() == wish.script()).or_else(|| kin().next())
            {
                return Some(found);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locale(text: &str) -> Locale {
        text.parse().unwrap()
    }

    #[test]
    fn tags_are_spelled_as_usual() {
        for (given, spelled) in [
            ("EN", "en"),
            ("pt-br", "pt-BR"),
            ("ZH-hans-cn", "zh-Hans-CN"),
            ("es-419", "es-419"),
            ("de-x-HOME", "de-x-home"),
            ("en-a-BBBB-x-ca", "en-a-bbbb-x-ca"),
        ] {
            assert_eq!(locale(given).as_str(), spelled);
        }
        for bad in ["", "e", "en-", "-en", "en--US", "en_US", "9a", "en-u", "x", "englishlanguage", "夜"] {
            assert_eq!(bad.parse::<Locale>(), Err(LocaleError), "{bad}");
        }
        assert!(format!("en-{}", ["abcdefgh"; 4].join("-")).parse::<Locale>().is_err());
    }

    #[test]
    fn wishes_are_read_by_weight() {
        let read = |header: &str| {
            Languages::accepted(header).0.iter().map(|locale| locale.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(read("de-AT, en;q=0.5, fr;q=0.8"), ["de-AT", "fr", "en"]);
        assert_eq!(read("en; q=0.5 , de ;q=0.5"), ["en", "de"]);
        assert_eq!(read("*, en;q=0, x;;q, fr;q=2, ;;,"), Vec::<String>::new());
        assert_eq!(read(&"en,".repeat(1_000)).len(), MAX_LANGUAGES);
    }

    #[test]
    fn the_best_of_what_there_is() {
        let best = |wanted: &str, there: &[&str]| {
            let there: Vec<_> = there.iter().copied().map(locale).collect();
            Languages::accepted(wanted).best(there.iter(), &there[0]).as_str().to_owned()
        };
        assert_eq!(best("de-AT", &["en", "de"]), "de");
        assert_eq!(best("de-AT", &["en", "de", "de-AT"]), "de-AT");
        assert_eq!(best("pt", &["en", "pt-BR"]), "pt-BR");
        assert_eq!(best("fr, pt-PT;q=0.9", &["en", "pt-BR"]), "pt-BR");
        assert_eq!(best("fr", &["en", "pt-BR"]), "en");
        assert_eq!(best("", &["en", "pt-BR"]), "en");
        assert_eq!(best("en-x-home-work", &["zh", "en"]), "en");
    }

    #[test]
    fn chinese_is_read_in_the_writing_of_its_reader() {
        let best = |wanted: &str, there: &[&str]| {
            let there: Vec<_> = there.iter().copied().map(locale).collect();
            Languages::accepted(wanted).best(there.iter(), &there[0]).as_str().to_owned()
        };
        assert_eq!(best("zh-TW", &["en", "zh-Hans", "zh-Hant"]), "zh-Hant");
        assert_eq!(best("zh-CN", &["en", "zh-Hant", "zh-Hans"]), "zh-Hans");
        assert_eq!(best("zh", &["en", "zh-HK", "zh-SG"]), "zh-SG");
        assert_eq!(best("zh-HK", &["en", "zh"]), "zh", "better the other writing than another language");
        assert_eq!(best("zh-TW", &["en", "zh", "zh-Hant"]), "zh-Hant");
    }
}
