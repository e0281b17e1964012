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
        "sdk/element.js",
        "sdk/error.js",
        "sdk/haul.d.ts",
        "sdk/haul.js",
        "sdk/money.js",
        "sdk/publish.js",
        "sdk/quality.js",
        "sdk/rest.js",
        "sdk/room.js",
        "sdk/session.js",
        "sdk/shop.js",
        "sdk/watch.js",
        "studio/audience.js",
        "studio/broadcast.js",
        "studio/level.js",
        "studio/main.js",
        "studio/moderation.js",
        "studio/orders.js",
        "studio/plot.js",
        "studio/products.js",
        "studio/sales.js",
        "studio/share.js",
        "studio/sources.js",
        "studio/studio.css",
        "studio/testpicture.js",
        "theme/base.css",
        "theme/chevron.svg",
        "theme/icons.svg",
        "theme/logo-light.svg",
        "theme/logo.svg",
        "ui/chat.js",
        "ui/chinese.js",
        "ui/dom.js",
        "ui/room.js",
        "ui/sheet.js",
        "ui/time.js",
        "ui/tongue.js",
        "ui/visit.js",
        "ui/words.js",
        "watch/bag.js",
        "watch/buy.js",
        "watch/buysheet.js",
        "watch/entrance.js",
        "watch/likes.js",
        "watch/main.js",
        "watch/offer.js",
        "watch/picture.js",
        "watch/pin.js",
        "watch/quality.js",
        "watch/show.js",
        "watch/stage.js",
        "watch/watch.css",
    ]
});

#[cfg(test)]
mod tests {
    use std::path::Path;

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
}
