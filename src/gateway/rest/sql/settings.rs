//! What a request's transaction begins with: who calls, and how.

use std::{borrow::Cow, sync::OnceLock};

/// So many settings have their statement at hand; there are more only where `app.settings` are many.
const AT_HAND: usize = 32;

/// Settings for one transaction, in the order in which they are made.
#[derive(Clone, Debug, Default)]
pub struct Locals<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Locals<'a> {
    /// None yet, with room for those that every request makes.
    pub fn new() -> Self {
        Self(Vec::with_capacity(12))
    }

    /// Adds a setting.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.0.push((name.into(), value.into()));
    }

    /// The statement that makes them. It is the same for as many settings, so that it stays prepared.
    pub fn text(&self) -> Cow<'static, str> {
        static TEXTS: OnceLock<Vec<String>> = OnceLock::new();
        let texts = TEXTS.get_or_init(|| (0..=AT_HAND).map(statement).collect());
        let count = self.0.len();
        texts
            .get(count)
            .map_or_else(|| statement(count).into(), |text| text.as_str().into())
    }

    /// Its parameters.
    pub fn params(&self) -> Vec<Option<&[u8]>> {
        let pairs = self.0.iter().map(|(name, value)| [name, value]);
        pairs.flatten().map(|text| Some(text.as_bytes())).collect()
    }
}

fn statement(settings: usize) -> String {
    let calls: Vec<String> = (0..settings)
        .map(|index| format!("pg_catalog.set_config(${}, ${}, true)", 2 * index + 1, 2 * index + 2))
        .collect();
    format!("select {}", calls.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_made_with_its_value() {
        let mut locals = Locals::new();
        locals.set("role", "anon");
        locals.set("request.method", "GET".to_owned());
        assert_eq!(
            locals.text(),
            "select pg_catalog.set_config($1, $2, true), pg_catalog.set_config($3, $4, true)"
        );
        let params: Vec<_> = locals.params().into_iter().flatten().collect();
        assert_eq!(params, ["role".as_bytes(), b"anon", b"request.method", b"GET"]);
        for number in 0..AT_HAND {
            locals.set(format!("app.settings.{number}"), "");
        }
        assert!(locals.text().ends_with(&format!("${}, true)", 2 * (AT_HAND + 2))));
    }
}
