//! The characters of one query value, and the small words all of its grammars share.

use super::super::error::{Error, Result};

/// What PostgREST says a name looks like.
pub const NAME: &str = "field name (* or [a..z0..9_$])";

/// A position in a value. Failing says what stood there and what could have.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    what: &'static str,
    value: &'a str,
    /// Characters that the messages count and the caller did not write.
    shown_from: usize,
    at: usize,
}

/// One step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonStep {
    /// `->>` instead of `->`.
    pub as_text: bool,
    /// What to take.
    pub operand: JsonOperand,
}

/// A member's name or an element's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonOperand {
    /// A member.
    Key(String),
    /// An element, counted from the end if negative.
    Index(String),
}

/// A column, and where to go in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// The way into its JSON.
    pub path: Vec<JsonStep>,
}

impl<'a> Cursor<'a> {
    /// A value, and what it is in error messages.
    pub fn new(what: &'static str, value: &'a str) -> Self {
        Self {
            what,
            value,
            shown_from: 0,
            at: 0,
        }
    }

    /// The same, but messages show the value without its first bytes.
    pub fn hiding(what: &'static str, value: &'a str, shown_from: usize) -> Self {
        Self {
            shown_from,
            ..Self::new(what, value)
        }
    }

    /// What is still to be read.
    pub fn rest(&self) -> &'a str {
        &self.value[self.at..]
    }

    /// The next character.
    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.at == self.value.len()
    }

    /// Steps over the next character.
    pub fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Steps over a word if it is next.
    pub fn eat(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Steps over an ASCII word in any letter case if it is next.
    pub fn eat_ignoring_case(&mut self, word: &str) -> bool {
        let found = self
            .rest()
            .get(..word.len())
            .is_some_and(|next| next.eq_ignore_ascii_case(word));
        if found {
            self.at += word.len();
        }
        found
    }

    /// Steps over spaces.
    pub fn spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Steps over a character and spaces around it if it is next.
    pub fn eat_spaced(&mut self, character: &str) -> bool {
        let start = self.at;
        self.spaces();
        if self.eat(character) {
            self.spaces();
            return true;
        }
        self.at = start;
        false
    }

    /// Steps over the characters that fit.
    pub fn take_while(&mut self, mut fits: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|character| !fits(character)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Why it cannot go on here.
    pub fn fail(&self, expecting: &str) -> Box<Error> {
        self.failed(self.peek(), expecting)
    }

    /// Why it cannot go on here, where a word was tried first: what is found is its first character that is missing.
    pub fn fail_word(&self, word: &str, expecting: &str) -> Box<Error> {
        let mut expected = word.chars();
        let found = self.rest().chars().find(|found| expected.next() != Some(*found));
        self.failed(found, expecting)
    }

    /// The character that is found stands in single quotes where the end could have been, else in double quotes.
    fn failed(&self, found: Option<char>, expecting: &str) -> Box<Error> {
        let found = match found.map(shown) {
            Some(found) if expecting.ends_with("end of input") => format!("unexpected '{found}'"),
            Some(found) => format!("unexpected \"{found}\""),
            None => "unexpected end of input".to_owned(),
        };
        let column = self.column();
        let shown = &self.value[self.shown_from..];
        let details = format!("{found} expecting {expecting}");
        Box::new(Error::syntax(self.what, shown, column, details))
    }

    /// How many characters were read, and one.
    pub fn column(&self) -> usize {
        self.value[..self.at].chars().count() + 1
    }

    /// A double-quoted text; `\` escapes the next character.
    pub fn quoted(&mut self) -> Option<String> {
        let start = self.at;
        let mut text = String::new();
        if !self.eat("\"") {
            return None;
        }
        loop {
            match self.bump() {
                Some('"') => return Some(text),
                Some('\\') => text.extend(self.bump()),
                Some(character) => text.push(character),
                None => {
                    self.at = start;
                    return None;
                }
            }
        }
    }

    /// A name: quoted, or letters, digits, `_`, `$` and spaces with single dashes between, trimmed.
    pub fn name(&mut self) -> Result<String> {
        if self.peek() == Some('"') {
            let name = self.quoted();
            return name.ok_or_else(|| self.fail(NAME));
        }
        let start = self.at;
        loop {
            if self.take_while(is_name).is_empty() {
                return Err(self.fail(NAME));
            }
            let dash = self.rest().starts_with('-') && self.rest()[1..].starts_with(is_name);
            if !dash {
                break;
            }
            self.bump();
        }
        Ok(self.value[start..self.at].trim().to_owned())
    }

    /// The way into a JSON value: `->` and `->>` with their operands.
    pub fn json_path(&mut self) -> Result<Vec<JsonStep>> {
        let mut path = Vec::new();
        while self.eat("->") {
            let as_text = self.eat(">");
            let operand = match self.json_index() {
                Some(index) => JsonOperand::Index(index),
                None => JsonOperand::Key(self.json_key()?),
            };
            path.push(JsonStep { as_text, operand });
        }
        Ok(path)
    }

    /// Digits, perhaps with a sign, and nothing else up to the next step.
    fn json_index(&mut self) -> Option<String> {
        let start = self.at;
        self.eat("-");
        let digits = self.take_while(|character| character.is_ascii_digit());
        let ends = self.is_done() || ["->", "::", ".", ","].iter().any(|end| self.rest().starts_with(end));
        if digits.is_empty() || !ends {
            self.at = start;
            return None;
        }
        Some(self.value[start..self.at].to_owned())
    }

    fn json_key(&mut self) -> Result<String> {
        if let Some(key) = self.quoted() {
            return Ok(key);
        }
        let is_key = |character| !"(-:.,>)".contains(character);
        let start = self.at;
        loop {
            if self.take_while(is_key).is_empty() {
                return Err(self.no_operand());
            }
            if !(self.rest().starts_with('-') && self.rest()[1..].starts_with(is_key)) {
                return Ok(self.value[start..self.at].trim().to_owned());
            }
            self.bump();
        }
    }

    /// Why neither an index nor a key of JSON stands here.
    fn no_operand(&self) -> Box<Error> {
        let mut ahead = self.clone();
        if !ahead.eat("-") {
            return self.fail("\"-\", digit or any non reserved character different from: .,>()");
        }
        match ahead.take_while(|character| character.is_ascii_digit()) {
            "" => ahead.fail("digit"),
            _ => ahead.fail("digit, \"->\", \"::\", \".\", \",\" or end of input"),
        }
    }

    /// A column with a JSON path.
    pub fn field(&mut self) -> Result<Field> {
        Ok(Field {
            name: self.name()?,
            path: self.json_path()?,
        })
    }

    /// Names separated by commas, as in `columns` and `on_conflict`.
    pub fn names(&mut self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        loop {
            self.spaces();
            names.push(self.name()?);
            if !self.eat_spaced(",") {
                return Ok(names);
            }
        }
    }
}

/// A character as PostgREST's messages show it.
fn shown(character: char) -> String {
    match character {
        '"' | '\\' => format!("\\{character}"),
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        ' '..='~' => character.to_string(),
        _ => format!("\\{}", u32::from(character)),
    }
}

/// Whether a name may have this character without quotes.
pub fn is_name(character: char) -> bool {
    character.is_alphanumeric() || "_ $".contains(character)
}

impl Field {
    /// The key its value gets when the client chose none: the last named step, else the column.
    pub fn key(&self) -> &str {
        let named = self.path.iter().rev().find_map(|step| match &step.operand {
            JsonOperand::Key(key) => Some(key.as_str()),
            JsonOperand::Index(_) => None,
        });
        named.unwrap_or(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> (String, String) {
        let mut cursor = Cursor::new("test", text);
        let name = cursor.name().unwrap();
        (name, cursor.rest().to_owned())
    }

    #[test]
    fn names_are_quoted_or_end_at_a_reserved_character() {
        assert_eq!(name("a b.c"), ("a b".into(), ".c".into()));
        assert_eq!(name("with-dash->x"), ("with-dash".into(), "->x".into()));
        assert_eq!(name(r#""a.\"b\"",c"#), (r#"a."b""#.into(), ",c".into()));
        assert_eq!(name("Überhaupt_$1)"), ("Überhaupt_$1".into(), ")".into()));
        assert!(Cursor::new("test", "\"open").name().is_err());
        assert!(Cursor::new("test", ".").name().is_err());
    }

    #[test]
    fn json_paths_tell_keys_from_indexes() {
        let field = Cursor::new("test", "data->0->>-1->a-b->\"x.y\"->9z").field().unwrap();
        let operands: Vec<_> = field.path.iter().map(|step| step.operand.clone()).collect();
        let key = |key: &str| JsonOperand::Key(key.into());
        let index = |index: &str| JsonOperand::Index(index.into());
        assert_eq!(operands, [index("0"), index("-1"), key("a-b"), key("x.y"), key("9z")]);
        assert!(field.path[1].as_text && !field.path[0].as_text);
        assert_eq!(field.key(), "9z");
    }
}
