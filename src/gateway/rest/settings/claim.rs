//! Where in a token the role is: `.role`, `.app.roles[0]`, `.roles[?(@ ^== "team_")]`.

use serde_json::{Map, Value};

/// A path to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
    /// The first text of an array that compares so.
    First(Comparison, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equals,
    Differs,
    StartsWith,
    EndsWith,
    Contains,
}

/// Comparisons by their signs, none of which begins another that follows it.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("==^", Comparison::EndsWith),
    ("^==", Comparison::StartsWith),
    ("*==", Comparison::Contains),
    ("==", Comparison::Equals),
    ("!=", Comparison::Differs),
];

impl Default for ClaimPath {
    fn default() -> Self {
        Self(vec![Step::Member("role".to_owned())])
    }
}

impl ClaimPath {
    /// Reads a path.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = step(rest).ok_or("is no path such as .app.roles[0]")?;
            steps.push(step);
            rest = after;
        }
        match steps.first() {
            Some(Step::Member(_)) => Ok(Self(steps)),
            _ => Err("does not begin with the name of a claim"),
        }
    }

    /// Whether this is the claim `role` itself.
    pub fn is_default(&self) -> bool {
        matches!(self.0.as_slice(), [Step::Member(name)] if name == "role")
    }

    /// What is there.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (Some(Step::Member(first)), rest) = (self.0.first(), self.0.get(1..)?) else {
            return None;
        };
        rest.iter().try_fold(claims.get(first)?, |value, step| match step {
            Step::Member(name) => value.get(name),
            Step::Element(index) => value.get(index),
            Step::First(comparison, text) => value.as_array()?.iter().find(|element| {
                let element = element.as_str();
                element.is_some_and(|element| comparison.holds(element, text))
            }),
        })
    }
}

impl Comparison {
    fn holds(self, element: &str, text: &str) -> bool {
        match self {
            Self::Equals => element == text,
            Self::Differs => element != text,
            Self::StartsWith => element.starts_with(text),
            Self::EndsWith => element.ends_with(text),
            Self::Contains => element.contains(text),
        }
    }
}

fn step(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix('.') {
        if rest.starts_with('"') {
            let (name, rest) = quoted(rest)?;
            return Some((Step::Member(name.to_owned()), rest));
        }
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$' | '@')))
            .unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        return (!name.is_empty()).then(|| (Step::Member(name.to_owned()), rest));
    }
    let rest = text.strip_prefix('[')?;
    if let Some(rest) = rest.strip_prefix("?(@") {
        let rest = rest.trim_start();
        let (sign, comparison) = COMPARISONS.iter().find(|(sign, _)| rest.starts_with(sign))?;
        let (text, rest) = quoted(rest[sign.len()..].trim_start())?;
        let rest = rest.trim_start().strip_prefix(")]")?;
        return Some((Step::First(*comparison, text.to_owned()), rest));
    }
    let (index, rest) = rest.split_once(']')?;
    Some((Step::Element(index.parse().ok()?), rest))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('"')?.split_once('"')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_to_the_role() {
        let claims = json!({
            "role": "clerk",
            "app": { "the roles": ["guest", "team_b", "team_a"], "level": 3 },
        });
        let claims = claims.as_object().unwrap();
        let found = |path: &str| ClaimPath::parse(path).unwrap().find(claims).cloned();
        assert_eq!(found(".role"), Some(json!("clerk")));
        assert_eq!(found("$.role"), Some(json!("clerk")));
        assert_eq!(found(r#".app."the roles"[1]"#), Some(json!("team_b")));
        assert_eq!(found(".app.level"), Some(json!(3)));
        assert_eq!(found(".app.role"), None);
        for (filter, role) in [
            (r#"@ == "guest""#, "guest"),
            (r#"@ != "guest""#, "team_b"),
            (r#"@ ^== "team_""#, "team_b"),
            (r#"@ ==^ "_a""#, "team_a"),
            (r#"@ *== "m_""#, "team_b"),
        ] {
            assert_eq!(
                found(&format!(r#".app."the roles"[?({filter})]"#)),
                Some(json!(role)),
                "{filter}"
            );
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "role",
            "[0]",
            ".",
            ".a[",
            ".a[x]",
            ".a-b",
            r#".a."b"#,
            ".a[?(@ = \"b\")]",
        ] {
            assert!(ClaimPath::parse(text).is_err(), "{text}");
        }
    }
}
