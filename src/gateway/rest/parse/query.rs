//! The query string: form decoding, and which key means what.

use std::{borrow::Cow, collections::HashMap};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use super::{
    super::error::Result,
    cursor::Cursor,
    filter::{self, Condition, Group, Test},
    operation::{self, Operation},
    order::{self, Term},
    range::Window,
    select::{self, Item},
};

/// The embeds on the way to what a key is about; empty for the root.
pub type EmbedPath = Vec<String>;

/// A query string.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// What to give back.
    pub select: Vec<Item>,
    /// Conditions, in the order they came in.
    pub conditions: Vec<(EmbedPath, Condition)>,
    /// Orders, one for each embed at most.
    pub orders: Vec<(EmbedPath, Vec<Term>)>,
    /// Limits and offsets.
    pub windows: HashMap<EmbedPath, Window>,
    /// The payload's keys that count.
    pub columns: Option<Vec<String>>,
    /// The columns of a conflict.
    pub on_conflict: Option<Vec<String>>,
    /// Arguments of a function that is called by its query string.
    pub arguments: Vec<(String, String)>,
}

/// How keys that are not reserved are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// As filters.
    Filters,
    /// As arguments, unless the value is an operation.
    Arguments,
}

/// All but letters, digits and `-_.~`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A decoded key and its value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Decodes a form: pairs of key and value; what has no `=` is ignored.
pub fn decode_form(form: &str) -> Vec<Pair<'_>> {
    form.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return text.into();
    }
    let spaced = text.replace('+', " ");
    let decoded: Cow<'_, [u8]> = percent_decode(spaced.as_bytes()).into();
    String::from_utf8_lossy(&decoded).into_owned().into()
}

/// Whether a key's value is read as a filter or an argument; the others say what to give back, or are logic trees.
pub fn is_plain(key: &str) -> bool {
    !matches!(key, "select" | "columns" | "on_conflict")
        && !matches!(
            key.rsplit('.').next().unwrap_or_default(),
            "order" | "limit" | "offset" | "and" | "or"
        )
}

/// The names in the first value of a key that lists some.
///
/// # Errors
/// PGRST100.
pub fn names(pairs: &[Pair<'_>], key: &str, what: &'static str) -> Result<Option<Vec<String>>> {
    let first = pairs.iter().find(|(own, _)| own == key);
    first.map(|(_, value)| Cursor::new(what, value).names()).transpose()
}

/// The payload's keys that count, where the query string says which.
///
/// # Errors
/// PGRST100.
pub fn columns(pairs: &[Pair<'_>]) -> Result<Option<Vec<String>>> {
    names(pairs, "columns", "columns parameter")
}

impl Query {
    /// Reads the pairs of a query string.
    ///
    /// # Errors
    /// PGRST100.
    pub fn parse(pairs: &[Pair<'_>], plain: Plain, aliases: &[&str]) -> Result<Self> {
        let first = |wanted: &str| {
            pairs
                .iter()
                .find(|(key, _)| key == wanted)
                .map(|(_, value)| value.as_ref())
        };
        let mut query = Self {
            select: select::parse(first("select").unwrap_or("*"), aliases)?,
            columns: columns(pairs)?,
            on_conflict: names(pairs, "on_conflict", "on_conflict parameter")?,
            ..Self::default()
        };
        let mut filters = 0;
        for (key, value) in pairs {
            if !matches!(key.as_ref(), "select" | "columns" | "on_conflict") {
                query.read(key, value, plain, &mut filters)?;
            }
        }
        Ok(query)
    }

    /// `filters` counts those that were read.
    fn read(&mut self, key: &str, value: &str, plain: Plain, filters: &mut usize) -> Result<()> {
        match key.rsplit('.').next().unwrap_or_default() {
            "order" => {
                let path = embed_path(key)?;
                if !self.orders.iter().any(|(ordered, _)| *ordered == path) {
                    self.orders.push((path, order::parse(value)?));
                }
            }
            "limit" => {
                if let Ok(limit) = value.trim().parse() {
                    self.windows.entry(embed_path(key)?).or_default().limit = Some(limit);
                }
            }
            "offset" => {
                if let Ok(offset) = value.trim().parse() {
                    self.windows.entry(embed_path(key)?).or_default().offset = Some(offset);
                }
            }
            "and" | "or" => {
                let (path, negated, any) = filter::logic_path(key)?;
                let group: Group = filter::group(negated, any, value)?;
                self.conditions.push((path, Condition::Group(group)));
            }
            _ => match operation::operation(value) {
                Ok(operation) => {
                    let (path, field) = filter::tree_path(key)?;
                    let operation = Operation {
                        number: Some(*filters),
                        ..operation
                    };
                    *filters += 1;
                    self.conditions.push((path, Condition::Test(Test { field, operation })));
                }
                Err(_) if plain == Plain::Arguments && !operation::looks_like_operation(value) => {
                    self.arguments.push((key.to_owned(), value.to_owned()));
                }
                Err(error) => return Err(error),
            },
        }
        Ok(())
    }

    /// The filters outside logic trees, in the order of their numbers.
    pub fn filters(&self) -> impl Iterator<Item = &Operation> {
        self.conditions.iter().filter_map(|(_, condition)| match condition {
            Condition::Test(test) => Some(&test.operation),
            Condition::Group(_) => None,
        })
    }

    /// The root's limit and offset.
    pub fn window(&self) -> Window {
        self.windows.get(&[] as &[String]).copied().unwrap_or_default()
    }
}

/// The embeds named before the last dot of a reserved key.
fn embed_path(key: &str) -> Result<EmbedPath> {
    let mut cursor = Cursor::new("tree path", key);
    let mut path = vec![cursor.name()?];
    while cursor.eat(".") {
        path.push(cursor.name()?);
    }
    path.pop();
    Ok(path)
}

/// Adds the parameters sorted by key and encoded anew, for `Content-Location`.
pub fn add_canonical(out: &mut String, pairs: &[Pair<'_>]) {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut separator = "?";
    for (key, value) in sorted {
        out.push_str(separator);
        separator = "&";
        out.extend(utf8_percent_encode(key, ENCODED));
        out.push('=');
        out.extend(utf8_percent_encode(value, ENCODED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Query {
        Query::parse(&decode_form(text), Plain::Filters, &[]).unwrap()
    }

    #[test]
    fn a_plus_is_a_space_and_bad_escapes_stay() {
        let pairs = decode_form("a=Windows+7%2B&b%3Dc=%zz&ignored&d=");
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()))
            .collect();
        assert_eq!(pairs, [("a", "Windows 7+"), ("b=c", "%zz"), ("d", "")]);
    }

    #[test]
    fn reserved_keys_end_in_their_word() {
        let query = parse("limit=1&limit=2&a.b.offset=3&a.order=x&order=y&order=z&c.not.or=(a.eq.1)&limit=x");
        assert_eq!(query.window().limit, Some(2));
        assert_eq!(query.windows[&vec!["a".to_owned(), "b".to_owned()]].offset, Some(3));
        assert_eq!(query.orders.len(), 2);
        assert_eq!(query.conditions[0].0, ["c"]);
        assert!(matches!(&query.conditions[0].1, Condition::Group(group) if group.any && group.negated));
        let quoted = parse("%22order%22=eq.1");
        assert!(matches!(&quoted.conditions[0].1, Condition::Test(test) if test.field.name == "order"));
    }

    #[test]
    fn arguments_are_what_is_no_operation() {
        let arguments = |text| Query::parse(&decode_form(text), Plain::Arguments, &[]);
        let query = arguments("id=5&id=gt.2&name=eq").unwrap();
        assert_eq!(query.arguments.len(), 2);
        assert_eq!(query.conditions.len(), 1);
        assert!(arguments("id=in.5").is_err());
    }

    #[test]
    fn the_canonical_form_is_sorted_and_encoded() {
        let mut location = String::from("/t");
        add_canonical(&mut location, &decode_form("b=eq.1&a=eq.x+y&select=*"));
        assert_eq!(location, "/t?a=eq.x%20y&b=eq.1&select=%2A");
    }

    #[test]
    fn filters_are_numbered_in_their_order_and_logic_trees_are_not() {
        let query = parse("a=eq.1&or=(b.eq.2)&c.d=in.(3)&select=c(d)&order=a&and=(a.eq.4)&e=is.null");
        let numbers: Vec<_> = query.filters().map(|operation| operation.number).collect();
        assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
        assert!(query.conditions.iter().all(|(_, condition)| match condition {
            Condition::Group(group) =>
                matches!(&group.members[..], [Condition::Test(test)] if test.operation.number.is_none()),
            Condition::Test(_) => true,
        }));
    }
}
