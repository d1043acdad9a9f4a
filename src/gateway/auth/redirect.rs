//! Where a browser may be sent after a link was followed: never to a stranger, who would get the tokens.

use url::{Host, Url};

/// The site, and the other addresses that count as ours.
#[derive(Clone, Debug)]
pub struct Destinations {
    site: Url,
    /// Patterns: `*` stands for anything without `.` and `/`, `**` for anything at all.
    allowed: Vec<String>,
}

impl Destinations {
    /// `site` is where to go when nothing else is asked for, or allowed.
    pub fn new(site: Url, allowed: Vec<String>) -> Self {
        Self { site, allowed }
    }

    /// The first of the wanted addresses that is allowed, else the site.
    pub fn choose<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Url {
        wanted
            .into_iter()
            .filter_map(|text| Url::parse(text).ok())
            .find(|url| self.allows(url))
            .unwrap_or_else(|| self.site.clone())
    }

    fn allows(&self, url: &Url) -> bool {
        if !url.username().is_empty() || url.password().is_some() {
            return false;
        }
        let loopback = match url.host() {
            Some(Host::Ipv4(ip)) => Some(ip.is_loopback()),
            Some(Host::Ipv6(ip)) => Some(ip.is_loopback()),
            Some(Host::Domain(name)) => (name == "localhost").then_some(true),
            None => None,
        };
        if loopback == Some(false) {
            return false;
        }
        let same_port = loopback == Some(true) || url.port_or_known_default() == self.site.port_or_known_default();
        let same_site = url.scheme() == self.site.scheme() && url.host() == self.site.host() && same_port;
        let mut bare = url.clone();
        bare.set_fragment(None);
        same_site
            || self
                .allowed
                .iter()
                .any(|pattern| matches(pattern.as_bytes(), bare.as_str().as_bytes()))
    }
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|taken| matches(rest, &text[taken..])),
        [b'*', rest @ ..] => {
            let reach = text.iter().position(|byte| b"./".contains(byte)).unwrap_or(text.len());
            (0..=reach).any(|taken| matches(rest, &text[taken..]))
        }
        [first, rest @ ..] => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wanted: &str) -> String {
        let site = Url::parse("https://shop.example/start").unwrap();
        let allowed = ["https://*.shop.example/**", "app://chat", "http://127.0.0.1:*/back"];
        let destinations = Destinations::new(site, allowed.map(ToOwned::to_owned).to_vec());
        destinations.choose([wanted]).to_string()
    }

    #[test]
    fn our_own_addresses_are_allowed() {
        for own in [
            "https://shop.example/orders?page=2#top",
            "https://desk.shop.example/a/b.html",
            "app://chat",
            "http://127.0.0.1:3000/back",
        ] {
            assert_eq!(chosen(own), own);
        }
    }

    #[test]
    fn strangers_are_not() {
        for strange in [
            "https://evil.example/",
            "http://shop.example/",
            "https://shop.example:8443/",
            "https://shop.example.evil.example/",
            "https://a.b.shop.example/",
            "https://evil.example/.shop.example/",
            "https://shop.example@evil.example/",
            "https://us:er@shop.example/",
            "https://evil.example\\@shop.example/",
            "https://93.184.216.34/",
            "javascript:alert(1)",
            "//evil.example",
            "",
        ] {
            assert_eq!(chosen(strange), "https://shop.example/start", "{strange}");
        }
    }

    #[test]
    fn any_port_of_this_machine_is_the_site_where_the_site_is_here() {
        let here = Destinations::new(Url::parse("http://127.0.0.1:3000").unwrap(), Vec::new());
        assert_eq!(
            here.choose(["http://127.0.0.1:5173/x"]).as_str(),
            "http://127.0.0.1:5173/x"
        );
        assert_eq!(
            here.choose(["http://127.0.0.2:5173/x"]).as_str(),
            "http://127.0.0.1:3000/"
        );
    }
}
