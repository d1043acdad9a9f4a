//! `select=`: columns, embedded relations, aggregates.

use super::{
    super::error::Result,
    cursor::{Cursor, Field, is_name},
};

/// One entry of a select list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Every column.
    Star,
    /// A column or an aggregate.
    Column(Column),
    /// A related resource.
    Embed(Embed),
}

/// A column, perhaps cast, perhaps aggregated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The key chosen by the client.
    pub alias: Option<String>,
    /// What to take; `None` counts rows.
    pub field: Option<Field>,
    /// A type's name, safe to be written into SQL.
    pub cast: Option<String>,
    /// What to compute over the rows.
    pub aggregate: Option<Aggregate>,
}

/// An aggregate function and the type to cast its result to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// One of [`FUNCTIONS`].
    pub function: &'static str,
    /// A type's name, safe to be written into SQL.
    pub cast: Option<String>,
}

/// A related resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embed {
    /// The key chosen by the client.
    pub alias: Option<String>,
    /// What the client called the relation.
    pub target: String,
    /// Which relationship is meant.
    pub hint: Option<String>,
    /// `!inner` or `!left`.
    pub join: Option<Join>,
    /// `...`: its columns are the parent's.
    pub spread: bool,
    /// What to take of it.
    pub items: Vec<Item>,
}

/// What happens to parents without a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// They stay.
    Left,
    /// They go.
    Inner,
}

/// The aggregates there are.
pub const FUNCTIONS: [&str; 5] = ["sum", "avg", "count", "max", "min"];

/// Embeds deeper than this are refused: each level is a level of recursion here and in Postgres.
const MAX_DEPTH: usize = 100;

/// Reads a select list. `aliases` are names with a dot that stand for relations of ours.
///
/// # Errors
/// PGRST100. Text behind a complete list is dropped.
pub fn parse(value: &str, aliases: &[&str]) -> Result<Vec<Item>> {
    let mut parser = Parser {
        cursor: Cursor::new("select parameter", value),
        aliases,
        depth: 0,
    };
    parser.cursor.spaces();
    if parser.cursor.is_done() {
        return Ok(vec![Item::Star]);
    }
    parser.items()
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    aliases: &'a [&'a str],
    depth: usize,
}

impl Parser<'_> {
    fn items(&mut self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        loop {
            self.cursor.spaces();
            items.push(self.item()?);
            if !self.cursor.eat_spaced(",") {
                return Ok(items);
            }
        }
    }

    fn item(&mut self) -> Result<Item> {
        if self.cursor.eat("...") {
            return match self.embed(None)? {
                Some(embed) => Ok(Item::Embed(Embed { spread: true, ..embed })),
                None => Err(self.cursor.fail("\"(\"")),
            };
        }
        if self.cursor.eat("*") {
            self.end("")?;
            return Ok(Item::Star);
        }
        let alias = self.alias();
        let start = self.cursor.clone();
        if let Some(embed) = self.embed(alias.clone())? {
            return Ok(Item::Embed(embed));
        }
        self.cursor = start;
        self.column(alias).map(Item::Column)
    }

    fn alias(&mut self) -> Option<String> {
        let start = self.cursor.clone();
        if let Ok(name) = self.cursor.name() {
            let cast = self.cursor.rest().starts_with("::");
            if !cast && self.cursor.eat(":") {
                self.cursor.spaces();
                return Some(name);
            }
        }
        self.cursor = start;
        None
    }

    /// The embed that starts here; `None` if what starts here is a column.
    fn embed(&mut self, alias: Option<String>) -> Result<Option<Embed>> {
        let Some(target) = self.target() else {
            return Ok(None);
        };
        let (mut hint, mut join) = (None, None);
        for _ in 0..2 {
            if !self.cursor.eat("!") {
                break;
            }
            if self.cursor.eat("left") {
                join = join.or(Some(Join::Left));
            } else if self.cursor.eat("inner") {
                join = join.or(Some(Join::Inner));
            } else if let Ok(name) = self.cursor.name() {
                hint = hint.or(Some(name));
            } else {
                return Ok(None);
            }
        }
        // `count(` is an aggregate, whatever relations are called.
        if !self.cursor.rest().starts_with('(') || target == "count" {
            return Ok(None);
        }
        self.cursor.bump();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.cursor.fail("no deeper embedding"));
        }
        self.cursor.spaces();
        let items = if self.cursor.rest().starts_with(')') {
            Vec::new()
        } else {
            self.items()?
        };
        self.cursor.spaces();
        if !self.cursor.eat(")") {
            return Err(self.cursor.fail("\",\" or \")\""));
        }
        self.depth -= 1;
        Ok(Some(Embed {
            alias,
            target,
            hint,
            join,
            spread: false,
            items,
        }))
    }

    fn target(&mut self) -> Option<String> {
        for alias in self.aliases {
            let behind = self.cursor.rest().strip_prefix(alias);
            if behind.is_some_and(|behind| behind.starts_with(['!', '('])) {
                self.cursor.eat(alias);
                return Some((*alias).to_owned());
            }
        }
        self.cursor.name().ok()
    }

    fn column(&mut self, alias: Option<String>) -> Result<Column> {
        if self.cursor.eat("count()") {
            let cast = self.cast()?;
            self.end("")?;
            return Ok(Column {
                alias,
                field: None,
                cast: None,
                aggregate: Some(Aggregate {
                    function: "count",
                    cast,
                }),
            });
        }
        let field = self.cursor.field()?;
        let cast = self.cast()?;
        let aggregate = if self.cursor.eat(".") {
            Some(self.aggregate()?)
        } else {
            None
        };
        self.end("letter, digit, \"-\", \"->>\", \"->\", \"::\", \".\", ")?;
        Ok(Column {
            alias,
            field: Some(field),
            cast,
            aggregate,
        })
    }

    /// Makes sure that an item ends here; what stands behind a closing parenthesis too many is dropped.
    fn end(&mut self, before: &str) -> Result<()> {
        self.cursor.spaces();
        if self.cursor.is_done() || self.cursor.rest().starts_with([',', ')']) {
            return Ok(());
        }
        Err(self.cursor.fail(&format!("{before}\")\", \",\" or end of input")))
    }

    fn aggregate(&mut self) -> Result<Aggregate> {
        let function = FUNCTIONS.into_iter().find(|function| self.cursor.eat(function));
        let function = function.ok_or_else(|| {
            self.cursor
                .fail_word("sum", "\"sum\", \"avg\", \"count\", \"max\" or \"min\"")
        })?;
        if !self.cursor.eat("()") {
            return Err(self.cursor.fail("\"()\""));
        }
        let cast = self.cast()?;
        Ok(Aggregate { function, cast })
    }

    /// A cast becomes a type's name in SQL as it stands; the few characters allowed here are what makes that safe.
    fn cast(&mut self) -> Result<Option<String>> {
        if !self.cursor.eat("::") {
            return Ok(None);
        }
        let name = self.cursor.take_while(is_name).trim();
        if name.is_empty() {
            return Err(self.cursor.fail("letter or digit"));
        }
        Ok(Some(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Vec<Item>> {
        super::parse(value, &["auth.users"])
    }

    fn embed(value: &str) -> Embed {
        match parse(value).unwrap().remove(0) {
            Item::Embed(embed) => embed,
            item => panic!("{item:?}"),
        }
    }

    fn column(value: &str) -> Column {
        match parse(value).unwrap().remove(0) {
            Item::Column(column) => column,
            item => panic!("{item:?}"),
        }
    }

    #[test]
    fn embeds_take_hint_and_join_in_any_order() {
        let both = embed("a:tasks!fk!inner(id, name)");
        assert_eq!((both.hint.as_deref(), both.join), (Some("fk"), Some(Join::Inner)));
        assert_eq!(
            embed("tasks!inner!fk()"),
            Embed {
                alias: None,
                items: vec![],
                ..both
            }
        );
        assert!(embed("...tasks(*)").spread);
        assert!(parse("tasks!inner_fk(id)").is_err());
        assert_eq!(embed(r#"tasks!"inner_fk"(id)"#).hint.as_deref(), Some("inner_fk"));
    }

    #[test]
    fn columns_have_alias_path_cast_and_aggregate() {
        let parsed = column("total:data->>n::int.sum()::text");
        assert_eq!(parsed.alias.as_deref(), Some("total"));
        assert_eq!(parsed.cast.as_deref(), Some("int"));
        let sum = Aggregate {
            function: "sum",
            cast: Some("text".into()),
        };
        assert_eq!(parsed.aggregate, Some(sum));
        assert_eq!(column("count").aggregate, None);
        assert_eq!(column("count()").field, None);
    }

    #[test]
    fn a_cast_cannot_carry_sql() {
        assert_eq!(column("a::int)--").cast.as_deref(), Some("int"));
        assert!(parse("a::").is_err());
    }

    #[test]
    fn an_item_ends_where_it_ends() {
        let told = |text| format!("{:?}", parse(text).unwrap_err());
        assert!(
            told("name!hint").contains("column 5)") && told("name!hint").contains("unexpected '!' expecting letter")
        );
        assert!(told("*!hint").contains(r#"unexpected '!' expecting \")\", \",\" or end of input"#));
        assert!(parse("a(id)x").is_ok());
    }

    #[test]
    fn an_alias_with_a_dot_is_a_target_and_nothing_else() {
        assert_eq!(embed("customer:auth.users!customer_id(id)").target, "auth.users");
        let refused = parse("public.users!customer_id(id)").unwrap_err();
        assert!(format!("{refused:?}").contains(r#"unexpected \"u\" expecting \"sum\", \"avg\""#));
    }
}
