//! The pages of the server and the client module they are made of, embedded in the binary.
//!
//! This crate holds bytes and their names. It knows no HTTP: the gateway asks for a page or an asset and decides about
//! headers. The pages are written for a strict content security policy (`default-src 'self'`, no inline script or
//! style), and the tests below keep them so.
//!
//! The sandbox's payment page is shown by the watch page in an `<iframe>` of the same origin, so its
//! `frame-ancestors` must contain `'self'`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::sync::LazyLock;

/// A file to be served as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub bytes: &'static [u8],
    /// The value of `ETag`, in quotes: the same for the same bytes. Names carry no version, so serve assets with
    /// `Cache-Control: no-cache` and let the browser ask again with `If-None-Match`.
    pub etag: &'static str,
}

/// The asset at a request path that starts with `/assets/` or `/sdk/`, if there is one.
pub fn asset(path: &str) -> Option<Asset> {
    ASSETS.iter().find(|(known, _)| known == path).map(|(_, entry)| entry.asset())
}

/// The paths of all assets.
pub fn asset_paths() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|(path, _)| path.as_str())
}

/// The host's page, `/studio/{live}`.
pub fn studio() -> Asset {
    STUDIO.asset()
}

/// The viewers' page, `/watch/{live}`.
pub fn watch() -> Asset {
    WATCH.asset()
}

/// The sandbox's payment page, `/sandbox/pay/{payment}`.
pub fn pay() -> Asset {
    PAY.asset()
}

/// The page that shows the API's description, `/docs`.
pub fn docs() -> Asset {
    DOCS.asset()
}

struct Entry {
    content_type: &'static str,
    bytes: &'static [u8],
    etag: String,
}

impl Entry {
    fn new(path: &str, bytes: &'static [u8]) -> Self {
        let content_type = match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("ts") => "text/plain; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "application/octet-stream",
        };
        Self { content_type, bytes, etag: format!("\"{:016x}\"", fnv1a(bytes)) }
    }

    fn asset(&'static self) -> Asset {
        Asset { content_type: self.content_type, bytes: self.bytes, etag: &self.etag }
    }
}

/// FNV-1a: it tells versions of a file apart, and nobody gains by making two of our own files collide.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        vec![$((url($name), Entry::new($name, include_bytes!(concat!("../assets/", $name)))),)*]
    };
}

macro_rules! page {
    ($name:literal) => {
        LazyLock::new(|| Entry::new($name, include_bytes!(concat!("../assets/pages/", $name))))
    };
}

static STUDIO: LazyLock<Entry> = page!("studio.html");
static WATCH: LazyLock<Entry> = page!("watch.html");
static PAY: LazyLock<Entry> = page!("pay.html");
static DOCS: LazyLock<Entry> = page!("docs.html");

/// The client module has a path of its own, since others import it; everything else is ours alone.
fn url(name: &str) -> String {
    if name.starts_with("sdk/") { format!("/{name}") } else { format!("/assets/{name}") }
}

static ASSETS: LazyLock<Vec<(String, Entry)>> = LazyLock::new(|| {
    embed![
        "demo/bag.svg",
        "demo/lamp.svg",
        "demo/tea.svg",
        "docs/docs.css",
        "docs/main.js",
        "docs/schema.js",
        "favicon.svg",
        "pay/main.js",
        "pay/pay.css",
        "sdk/channel.js",
        "sdk/clock.js",
        "sdk/element.d.ts",
        "sdk/element.js",
        "sdk/error.js",
        "sdk/haul.d.ts",
        "sdk/haul.js",
        "sdk/json.js",
        "sdk/money.js",
        "sdk/moq/arrivals.js",
        "sdk/moq/capture.js",
        "sdk/moq/encode.js",
        "sdk/moq/picture.js",
        "sdk/moq/playout.js",
        "sdk/moq/publish.js",
        "sdk/moq/session.js",
        "sdk/moq/socket.js",
        "sdk/moq/sound.js",
        "sdk/moq/tap.js",
        "sdk/moq/watch.js",
        "sdk/moq/wire.js",
        "sdk/play.js",
        "sdk/publish.js",
        "sdk/quality.js",
        "sdk/rest.js",
        "sdk/room.js",
        "sdk/session.js",
        "sdk/shop.js",
        "sdk/watch.js",
        "sdk/ways.js",
        "studio/audience.js",
        "studio/broadcast.js",
        "studio/coupons.js",
        "studio/level.js",
        "studio/main.js",
        "studio/moderation.js",
        "studio/orders.js",
        "studio/plot.js",
        "studio/products.js",
        "studio/saleform.js",
        "studio/sales.js",
        "studio/share.js",
        "studio/sources.js",
        "studio/studio.css",
        "studio/testpicture.js",
        "studio/way.js",
        "theme/base.css",
        "theme/chevron.svg",
        "theme/icons.svg",
        "theme/logo-light.svg",
        "theme/logo.svg",
        "ui/attempt.js",
        "ui/chat.js",
        "ui/chinese.js",
        "ui/chinese_studio.js",
        "ui/dom.js",
        "ui/listing.js",
        "ui/room.js",
        "ui/sheet.js",
        "ui/time.js",
        "ui/tongue.js",
        "ui/visit.js",
        "ui/words.js",
        "watch/bag.js",
        "watch/buy.js",
        "watch/buysheet.js",
        "watch/contact.js",
        "watch/coupon.js",
        "watch/deck.css",
        "watch/deck.js",
        "watch/entrance.js",
        "watch/hearing.js",
        "watch/kept.js",
        "watch/likes.js",
        "watch/line.js",
        "watch/main.js",
        "watch/offer.js",
        "watch/picture.js",
        "watch/pin.js",
        "watch/product.js",
        "watch/quality.js",
        "watch/saved.js",
        "watch/shop.css",
        "watch/show.js",
        "watch/stage.js",
        "watch/talk.js",
        "watch/watch.css",
    ]
});

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::Path,
    };

    use super::*;

    fn pages() -> [(&'static str, Asset); 4] {
        [("studio", studio()), ("watch", watch()), ("pay", pay()), ("docs", docs())]
    }

    fn text(asset: Asset) -> &'static str {
        std::str::from_utf8(asset.bytes).unwrap()
    }

    /// What stands between `before` and the next quote.
    fn quoted_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_file_a_page_names_is_served() {
        for (name, page) in pages() {
            let html = text(page);
            for reference in quoted_after(html, "src=\"").into_iter().chain(quoted_after(html, "href=\"")) {
                let path = reference.split('#').next().unwrap();
                let file = path.starts_with("/assets/") || path.starts_with("/sdk/");
                assert!(!file || asset(path).is_some(), "{name} names {path}");
                assert!(path.is_empty() || path.starts_with('/'), "{name} reaches outside: {reference}");
            }
        }
    }

    #[test]
    fn every_module_import_is_served() {
        for path in asset_paths().filter(|path| path.ends_with(".js")) {
            let source = text(asset(path).unwrap());
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            for import in code.flat_map(|line| quoted_after(line, " from \"")) {
                let target = resolve(path, import);
                assert!(asset(&target).is_some(), "{path} imports {import}, which is {target}");
            }
        }
    }

    fn resolve(from: &str, import: &str) -> String {
        if import.starts_with('/') {
            return import.to_owned();
        }
        let mut parts: Vec<&str> = from.split('/').collect();
        parts.pop();
        for step in import.split('/') {
            match step {
                "." => {}
                ".." => _ = parts.pop(),
                step => parts.push(step),
            }
        }
        parts.join("/")
    }

    #[test]
    fn pages_keep_the_content_security_policy() {
        for (name, page) in pages() {
            let html = text(page);
            for tag in html.split("<script").skip(1) {
                let open = tag.split('>').next().unwrap();
                assert!(open.contains("src=\""), "{name} has an inline script");
                assert!(tag[open.len()..].starts_with("></script>"), "{name} has an inline script");
            }
            assert!(!html.contains("<style"), "{name} has an inline style sheet");
            for word in html.split_whitespace() {
                let handler = word.starts_with("on") && word.contains("=\"");
                assert!(!handler && !word.starts_with("style="), "{name} has an inline {word}");
            }
        }
    }

    #[test]
    fn scripts_never_turn_text_into_markup() {
        for path in asset_paths().filter(|path| path.ends_with(".js")) {
            let source = text(asset(path).unwrap());
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!source.contains(way), "{path} uses {way}");
            }
        }
    }

    #[test]
    fn every_file_on_disk_is_embedded() {
        fn walk(directory: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.push(path.to_str().unwrap().to_owned());
                }
            }
        }
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/");
        let mut found = Vec::new();
        walk(Path::new(root), &mut found);
        for file in found {
            let name = file.strip_prefix(root).unwrap();
            assert!(name.starts_with("pages/") || asset(&url(name)).is_some(), "{name} is not embedded");
        }
    }

    #[test]
    fn an_asset_knows_its_type_and_keeps_its_tag() {
        let module = asset("/sdk/haul.js").unwrap();
        assert_eq!(module.content_type, "text/javascript; charset=utf-8");
        assert_eq!(module, asset("/sdk/haul.js").unwrap());
        assert_ne!(module.etag, asset("/assets/theme/base.css").unwrap().etag);
        assert_eq!(asset("/sdk/../secret"), None);
    }

    /// Words that are the same in every language.
    const NAMES: [&str; 3] = ["Haul", "eyJ…", "gold"];

    #[test]
    fn everything_that_is_read_has_its_chinese() {
        let chinese: BTreeSet<String> = ["/assets/ui/chinese.js", "/assets/ui/chinese_studio.js"]
            .into_iter()
            .flat_map(|path| quoted_keys(text(asset(path).unwrap())))
            .collect();
        let mut said = BTreeMap::new();
        for path in asset_paths().filter(|path| path.ends_with(".js") && !path.starts_with("/assets/docs/")) {
            for words in phrases(text(asset(path).unwrap())) {
                said.insert(words, path);
            }
        }
        for (name, page) in pages().into_iter().filter(|(name, _)| *name != "docs") {
            for words in page_words(text(page)) {
                said.insert(words, name);
            }
        }
        assert!(said.len() > 400, "{} phrases were found", said.len());
        let lacking: Vec<_> = said
            .iter()
            .filter(|(words, _)| !chinese.contains(*words) && !NAMES.contains(&words.as_str()))
            .collect();
        assert!(lacking.is_empty(), "without Chinese: {lacking:#?}");
        let unused: Vec<_> = chinese.iter().filter(|words| !said.contains_key(*words)).collect();
        assert!(unused.is_empty(), "nobody says: {unused:#?}");
    }

    /// The keys of a table such as `  "key": "value",`.
    fn quoted_keys(source: &str) -> Vec<String> {
        let keys = source.lines().filter_map(|line| line.strip_prefix("  \""));
        keys.map(|rest| literal(rest).0).collect()
    }

    /// A literal whose opening quote is gone, and what stands behind it.
    fn literal(source: &str) -> (String, &str) {
        let mut words = String::new();
        let mut rest = source.char_indices();
        while let Some((at, c)) = rest.next() {
            match c {
                '"' => return (words, &source[at + 1..]),
                '\\' => words.extend(rest.next().map(|(_, c)| c)),
                c => words.push(c),
            }
        }
        panic!("no end: {source}");
    }

    /// The texts that stand in calls of `t`, `phrase` and `plural`; what something is compared with is none.
    fn phrases(source: &str) -> Vec<String> {
        let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        let mut found = Vec::new();
        for call in ["t(", "phrase(", "plural("] {
            for (at, _) in code.match_indices(call) {
                let before = code[..at].chars().next_back().unwrap_or(' ');
                if !before.is_alphanumeric() && !"._#$".contains(before) {
                    found.extend(arguments(&code[at + call.len()..]));
                }
            }
        }
        found
    }

    /// The texts at the top level of a call's arguments.
    fn arguments(source: &str) -> Vec<String> {
        let (mut rest, mut depth, mut found) = (source, 1, Vec::new());
        let mut compared = false;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            rest = after;
            match c {
                '"' => {
                    let (words, behind) = literal(after);
                    rest = behind;
                    if depth == 1 && !compared && !words.is_empty() {
                        found.push(words);
                    }
                }
                '`' => rest = after.split_once('`').map_or("", |(_, behind)| behind),
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            compared = after.len() < source.len() && c == '=' || compared && c.is_whitespace();
        }
        found
    }

    /// What is read of a page: texts, and the attributes that are read.
    fn page_words(html: &str) -> Vec<String> {
        let body = html.split_once("<body>").unwrap().1;
        let plain = |words: &str| words.trim().replace("&nbsp;", " ").replace("&amp;", "&");
        let mut found: Vec<String> = Vec::new();
        for piece in body.split('<').filter(|piece| !piece.starts_with("!--")) {
            let (tag, words) = piece.split_once('>').unwrap_or(("", piece));
            found.push(plain(words));
            for name in ["aria-label", "placeholder", "title", "alt", "data-none"] {
                found.extend(quoted_after(tag, &format!(" {name}=\"")).into_iter().map(plain));
            }
        }
        found.retain(|words| words.chars().filter(char::is_ascii_alphabetic).count() > 1);
        found
    }
}
