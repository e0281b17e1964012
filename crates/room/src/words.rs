//! Words that may not be written.
//!
//! Text and list are folded alike before they are compared: compatibility forms (full-width letters, ligatures), case
//! and accents fall away, and so does what has no width. The whole list is looked for in one pass (Aho–Corasick), so
//! that a long list costs what a short one does.
//!
//! Letters of other alphabets that look like Latin ones are read as these. What changes the letter stays: a voiced kana is
//! not its unvoiced one, and a Korean syllable is a letter of its own.
//!
//! Words in scripts that put spaces between words are found as whole words ("ass" is not in "class"), also with marks
//! between their letters ("a_s_s"); a word ends where a script without spaces begins. Those with Chinese, Japanese or Korean
//! characters are found anywhere, also where spaces or punctuation were put between their characters.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Words of one live; more are refused.
pub const MAX_WORDS: usize = 10_000;
/// The longest word or phrase, in Unicode scalar values.
pub const MAX_WORD_CHARS: usize = 60;

/// The list.
#[derive(Debug, Default)]
pub struct WordList {
    /// As they were added.
    words: BTreeSet<String>,
    /// Folded, with a space at both ends: found in text that has single spaces between words and at its ends.
    spaced: Option<AhoCorasick>,
    /// Folded, without anything but letters and digits: found in text without anything else.
    dense: Option<AhoCorasick>,
}

impl WordList {
    /// The words, in order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// Adds and removes words. What is longer than allowed, or has no letter or digit, is left out; false where the
    /// list would get too long, and nothing is changed.
    pub fn change(&mut self, add: &[String], remove: &[String]) -> bool {
        let words = changed(self.words.clone(), add, remove);
        if words.len() > MAX_WORDS {
            return false;
        }
        if words != self.words {
            self.words = words;
            self.build();
        }
        true
    }

    /// Whether the text has one of the words.
    pub fn finds(&self, text: &str) -> bool {
        self.finds_as_it_is(text) || capitals(text).is_some_and(|text| self.finds_as_it_is(&text))
    }

    fn finds_as_it_is(&self, text: &str) -> bool {
        self.spaced
            .as_ref()
            .is_some_and(|words| words.is_match(&spaced(text)) || words.is_match(&joined(text)))
            || self.dense.as_ref().is_some_and(|words| words.is_match(&dense(text)))
    }

    fn build(&mut self) {
        let (without_spaces, with_spaces): (Vec<_>, Vec<_>) =
            self.words.iter().partition(|word| word.chars().any(is_unspaced));
        let automaton = |patterns: Vec<String>| {
            // It fails only where the patterns are too long in all, and MAX_WORDS of MAX_WORD_CHARS are not.
            (!patterns.is_empty()).then(|| AhoCorasick::new(patterns).ok()).flatten()
        };
        self.spaced = automaton(with_spaces.into_iter().map(|word| spaced(word)).collect());
        self.dense = automaton(without_spaces.into_iter().map(|word| dense(word)).collect());
    }
}

/// What the words are when some are added and removed.
pub(crate) fn changed(mut words: BTreeSet<String>, add: &[String], remove: &[String]) -> BTreeSet<String> {
    for word in remove {
        words.remove(word.trim());
    }
    words.extend(
        add.iter()
            .map(|word| word.trim())
            .filter(|word| word.chars().count() <= MAX_WORD_CHARS && !dense(word).is_empty())
            .map(str::to_owned),
    );
    words
}

/// The text as it is compared: letters and digits in their plainest form, and everything else as it is.
pub fn fold(text: &str) -> impl Iterator<Item = char> {
    text.nfkd()
        .filter(|c| !is_without_width(*c) && (is_voiced_mark(*c) || !is_combining_mark(*c)))
        // Kana with their marks, and syllables of their letters.
        .nfc()
        // By way of capitals, so that ß and ss are one.
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
}

/// Letters and digits of the text, folded; of a text that has none, such as a single emoji, all but its spaces.
pub fn compared(text: &str) -> String {
    let letters: String = fold(text).filter(|c| c.is_alphanumeric()).collect();
    match letters.is_empty() {
        true => text.chars().filter(|c| !c.is_whitespace() && !is_without_width(*c)).collect(),
        false => letters,
    }
}

/// A name as it looks: folded, and letters and digits that are drawn alike are one (of UTS #39's skeletons, those that are
/// seen at a glance).
pub fn likeness(name: &str) -> String {
    let drawn = |c| match plain(c) {
        '0' => 'o',
        '1' | 'i' => 'l',
        '5' => 's',
        c => c,
    };
    let name: String = compared(name).chars().map(drawn).collect();
    name.replace("rn", "m").replace("vv", "w")
}

/// Whether a name looks like one that is kept, given as its [`likeness`], or has it among its words. Of kept names that are
/// short and no `title`, only the whole name counts: many people are called Mia.
pub fn passes_for(name: &str, kept: &str, title: bool) -> bool {
    let passes = |name: &str| {
        let whole = likeness(name);
        if whole == kept {
            return true;
        }
        if !title && kept.chars().count() < LONG_NAME {
            return false;
        }
        if kept.chars().any(is_unspaced) {
            return whole.contains(kept);
        }
        let words: Vec<String> = name
            .split(|c: char| c.is_whitespace() || c.is_ascii_punctuation())
            .filter(|word| !word.is_empty())
            .map(likeness)
            .collect();
        (0..words.len()).any(|from| (from + 1..=words.len()).any(|to| words[from..to].concat() == kept))
    };
    passes(name) || capitals(name).is_some_and(|name| passes(&name))
}

/// Kept names from so many letters on are looked for among a name's words, too.
const LONG_NAME: usize = 6;

/// The text with Greek capitals as the Latin ones that are drawn the same, where their small letters are drawn like others.
/// `None` where there are none.
fn capitals(text: &str) -> Option<String> {
    let latin = |c| match c {
        'Η' => 'H',
        'Ν' => 'N',
        'Υ' => 'Y',
        c => c,
    };
    let text_in_latin: String = text.chars().map(latin).collect();
    (text_in_latin != text).then_some(text_in_latin)
}

/// A letter as it looks: those of Cyrillic, Greek and Cherokee (as they are once folded), and a few more, as the Latin one
/// that is drawn the same.
pub fn plain(c: char) -> char {
    match c {
        '\u{AB70}' | '\u{13A0}' => 'd',
        '\u{AB71}' | '\u{13A1}' => 'r',
        '\u{AB72}' | '\u{13A2}' => 't',
        '\u{AB75}' | '\u{13A5}' => 'i',
        '\u{AB7A}' | '\u{13AA}' => 'a',
        '\u{AB7B}' | '\u{13AB}' => 'j',
        '\u{AB7C}' | '\u{13AC}' => 'e',
        '\u{AB83}' | '\u{13B3}' | '\u{ABA4}' | '\u{13D4}' => 'w',
        '\u{AB87}' | '\u{13B7}' | '\u{15F0}' => 'm',
        '\u{AB8B}' | '\u{13BB}' => 'h',
        '\u{AB8D}' | '\u{13BD}' => 'y',
        '\u{AB90}' | '\u{13C0}' => 'g',
        '\u{AB93}' | '\u{13C3}' => 'z',
        '\u{ABA5}' | '\u{13D5}' | '\u{ABAA}' | '\u{13DA}' => 's',
        '\u{ABA9}' | '\u{13D9}' => 'v',
        '\u{ABAE}' | '\u{13DE}' => 'l',
        '\u{ABAF}' | '\u{13DF}' => 'c',
        '\u{ABB2}' | '\u{13E2}' => 'p',
        '\u{ABB6}' | '\u{13E6}' => 'k',
        'а' | 'α' | 'ɑ' | 'ᴀ' | 'ⱥ' => 'a',
        'в' | 'β' | 'ʙ' | 'ƀ' => 'b',
        'с' | 'ϲ' | 'ᴄ' | 'ȼ' => 'c',
        'ԁ' | 'đ' | 'ᴅ' => 'd',
        'е' | 'ε' | 'є' | 'ᴇ' | 'ɇ' => 'e',
        'ꜰ' => 'f',
        'ɡ' | 'ɢ' | 'ǥ' => 'g',
        'н' | 'һ' | 'ʜ' | 'ħ' | 'ⱨ' => 'h',
        'і' | 'ι' | 'ı' | 'ɪ' | 'ɨ' => 'i',
        'ј' | 'ᴊ' | 'ɉ' => 'j',
        'к' | 'κ' | 'ᴋ' | 'ⱪ' => 'k',
        'ӏ' | 'ł' | 'ʟ' => 'l',
        'м' | 'μ' | 'ᴍ' => 'm',
        'η' | 'п' | 'ɴ' => 'n',
        'о' | 'ο' | 'σ' | 'ø' | 'ᴏ' | 'ɵ' => 'o',
        'р' | 'ρ' | 'ᴘ' | 'ᵽ' => 'p',
        'ԛ' => 'q',
        'г' | 'ʀ' | 'ɍ' => 'r',
        'ѕ' | 'ꜱ' => 's',
        'т' | 'τ' | 'ᴛ' | 'ŧ' => 't',
        'υ' | 'ᴜ' | 'ʉ' => 'u',
        'ν' | 'ѵ' | 'ᴠ' => 'v',
        'ԝ' | 'ω' | 'ᴡ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' | 'ʏ' | 'ɏ' => 'y',
        'ζ' | 'ᴢ' | 'ƶ' => 'z',
        // White on black, in circles and squares; flags are made of others.
        '\u{1F150}'..='\u{1F169}' => letter(c, '\u{1F150}'),
        '\u{1F170}'..='\u{1F189}' => letter(c, '\u{1F170}'),
        c => c,
    }
}

/// The small letter that stands as far from `a` as this from `first`.
fn letter(c: char, first: char) -> char {
    u8::try_from(u32::from(c) - u32::from(first)).map_or(c, |nth| char::from(b'a' + nth % 26))
}

/// One space between words and at both ends; whatever is no letter or digit lies between words.
fn spaced(text: &str) -> String {
    apart(fold(text).map(|c| if c.is_alphanumeric() { plain(c) } else { ' ' }))
}

/// The same, but that only spaces lie between words: what else there is between letters is as if it were not.
fn joined(text: &str) -> String {
    apart(fold(text).filter(|c| c.is_alphanumeric() || c.is_whitespace()).map(plain))
}

fn apart(text: impl Iterator<Item = char>) -> String {
    let mut apart = String::from(' ');
    let mut last = ' ';
    for c in text {
        let changes = c.is_alphanumeric() && last.is_alphanumeric() && is_unspaced(c) != is_unspaced(last);
        if changes {
            apart.push(' ');
        }
        if !c.is_whitespace() {
            apart.push(c);
        } else if last != ' ' {
            apart.push(' ');
        }
        last = if c.is_whitespace() { ' ' } else { c };
    }
    if last != ' ' {
        apart.push(' ');
    }
    apart
}

fn dense(text: &str) -> String {
    fold(text).filter(|c| c.is_alphanumeric()).map(plain).collect()
}

/// What makes another letter of a kana.
fn is_voiced_mark(c: char) -> bool {
    matches!(c, '\u{3099}' | '\u{309A}')
}

/// Characters of scripts that put no spaces between words: kana, Han, Hangul, Thai.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0E7F}' | '\u{1100}'..='\u{11FF}' | '\u{3040}'..='\u{30FF}' | '\u{3130}'..='\u{318F}'
        | '\u{31F0}'..='\u{31FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// Soft hyphen, joiners, empty Hangul letters, spaces of no width, direction marks, variation selectors, byte order mark.
pub(crate) fn is_without_width(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{34F}' | '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' | '\u{E0000}'..='\u{E0FFF}' | '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{2064}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> WordList {
        let mut list = WordList::default();
        assert!(list.change(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &[]));
        list
    }

    #[test]
    fn words_are_found_however_they_are_written() {
        let list = list(&["Scam", "naïve", "straße", "buy now", "微信", "代購"]);
        for text in [
            "this is a SCAM!",
            "ｓｃａｍ",
            "s\u{200B}cam",
            "sc\u{AD}am",
            "NAIVE",
            "na\u{308}ive",
            "STRASSE",
            "Buy...now",
            "加我微信吧",
            "加我微 信",
            "微.信",
            "微\u{200B}信",
            "找代購。",
        ] {
            assert!(list.finds(text), "{text}");
        }
        for text in ["scamper", "no s cam", "buying now", "buy it now", "微笑信任", "代理"] {
            assert!(!list.finds(text), "{text}");
        }
    }

    #[test]
    fn words_are_found_between_scripts_and_in_disguise_and_not_where_they_are_not() {
        let list = list(&["vx", "wechat", "scam", "ばか", "바보", "скам"]);
        for text in [
            "加vx吧",
            "加VX吧",
            "加wechat聊",
            "加v_x",
            "v.x",
            "s-c-a-m",
            "s*c*a*m now",
            "sсаm",
            "ѕcam",
            "ばか",
            "ばか者",
            "s\u{3164}cam",
            "s\u{115F}cam",
            "바보",
            "바보야",
            "скам",
            "это скам!",
            "ばか",
        ] {
            assert!(list.finds(text), "{text}");
        }
        for text in ["はかり", "바본", "바 본", "no s cam", "vxx", "a vxb", "сказка", "scamper"]
        {
            assert!(!list.finds(text), "{text}");
        }
    }

    #[test]
    fn capitals_are_read_as_they_are_drawn() {
        let list = list(&["host", "now", "ηλιος"]);
        for text in ["ΗOST", "ΝOW", "ΗΛΙΟΣ", "ηλιος"] {
            assert!(list.finds(text), "{text}");
        }
        assert!(!list.finds("ΗΛΙΟ"));
    }

    #[test]
    fn a_name_passes_for_another_by_what_is_seen_of_it() {
        let host = likeness("Mia Host");
        for name in [
            "M1a H0st",
            "Mla Host",
            "rnia host",
            "ᴍɪᴀ ʜᴏꜱᴛ",
            "Mia Ħosŧ",
            "🅼🅸🅰 🅷🅾🆂🆃",
            "MᎥa Host",
            "Ꮇia Host",
            "ᗰia Host",
            "Mia Host (host)",
            "the Mia-Host",
            "ΜΙΑ ΗOST",
        ] {
            assert!(passes_for(name, &host, false), "{name}");
        }
        for name in ["Mia", "Mia Hosts", "Hostmia"] {
            assert!(!passes_for(name, &host, false), "{name}");
        }
        let mia = likeness("Mia");
        assert!(passes_for("M1a", &mia, false) && !passes_for("Mia Chen", &mia, false));
        assert!(
            passes_for("Mia, host", &likeness("Host"), true) && !passes_for("Ghost", &likeness("Host"), true)
        );
        assert!(passes_for("我是主播", &likeness("主播"), true));
    }

    #[test]
    fn the_list_changes() {
        let mut list = list(&["one", "two", "  ", "!!", &"x".repeat(MAX_WORD_CHARS + 1)]);
        assert_eq!(list.words().collect::<Vec<_>>(), ["one", "two"]);
        assert!(list.change(&["three".into()], &["one".into()]));
        assert!(!list.finds("one") && list.finds("two") && list.finds("three"));
        let many: Vec<String> = (0..MAX_WORDS).map(|n| format!("word{n}")).collect();
        assert!(!list.change(&many, &[]));
        assert_eq!(list.words().count(), 2, "and nothing is changed");
    }

    #[test]
    fn a_long_list_is_looked_for_at_once() {
        let many: Vec<String> = (0..MAX_WORDS).map(|n| format!("word{n}")).collect();
        let mut list = WordList::default();
        assert!(list.change(&many, &[]));
        assert!(list.finds("say word9999 here") && !list.finds("say word here"));
    }
}
