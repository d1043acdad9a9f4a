//! The tree of what a request gives back.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::super::{
    Settings,
    catalog::{Catalog, Link, Name, Relation},
    error::{Error, Result},
    parse::{
        filter::Condition,
        order::Term,
        query::Query,
        range::{Range, Window},
        select::{Column, Embed, Item, Join},
    },
};
use super::relationship;

/// A level of the answer: rows of one relation, with what is embedded in them.
#[derive(Clone, Debug)]
pub struct Node<'c> {
    /// What the rows are; unknown for a function's rows that are of no relation.
    pub relation: Option<&'c Relation>,
    /// Where the rows are.
    pub source: Source,
    /// The name of its rows within the statement, unlike every other.
    pub alias: String,
    /// What to take.
    pub fields: Vec<Output>,
    /// Which rows.
    pub conditions: Vec<Condition>,
    /// In which order.
    pub order: Vec<Term>,
    /// How many.
    pub window: Bounds,
    /// What is embedded.
    pub embeds: Vec<Child<'c>>,
}

/// Where rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a relation.
    Relation(Name),
    /// In the result of the request's own write or call.
    Result,
}

/// One output of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Every column.
    Star,
    /// A column or aggregate.
    Column(Column),
}

/// How many rows of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// All.
    All,
    /// The root's.
    Range(Range),
    /// Those of an embed, per row of its parent. What is negative is for Postgres to refuse.
    Window(Window),
}

/// What is embedded in a level.
#[derive(Clone, Debug)]
pub struct Child<'c> {
    /// Its rows.
    pub node: Node<'c>,
    /// The key it was given by the client, else what the client called it.
    pub key: String,
    /// What the client called it.
    pub target: String,
    /// Whether a filter, order or limit means it by its target's name though it has an alias.
    pub by_target: bool,
    /// How its rows find their parent.
    pub link: &'c Link,
    /// Whether it is one row at most.
    pub to_one: bool,
    /// Whether parents without a match go.
    pub inner: bool,
    /// Whether its columns are the parent's.
    pub spread: bool,
    /// The name of its value within the statement.
    pub joined: String,
}

/// Resolves a query against the catalog.
pub struct Planner<'c> {
    /// What there is.
    pub catalog: &'c Catalog,
    /// How the service behaves.
    pub settings: &'c Settings,
    /// Whether there is a limit on rows that no client chose.
    pub capped: bool,
}

impl<'c> Planner<'c> {
    /// A planner for one request.
    pub fn new(catalog: &'c Catalog, settings: &'c Settings, capped: bool) -> Self {
        Self {
            catalog,
            settings,
            capped,
        }
    }

    /// The tree for rows of a relation. `name` is what the request calls them, `source` where they are.
    ///
    /// # Errors
    /// PGRST108, PGRST118, PGRST123, PGRST127, PGRST200, PGRST201.
    pub fn root(&self, name: &Name, source: Source, query: &Query, range: Range) -> Result<Node<'c>> {
        let by_target = self.settings.url_use_legacy_target_names;
        check_paths(query, by_target)?;
        let relation = self.catalog.relation(name);
        let mut root = self.node((name, 0), relation, source, &query.select)?;
        root.alias.clone_from(&name.name);
        root.window = Bounds::Range(range.capped(self.cap()));
        for (path, condition) in &query.conditions {
            root.at(path, by_target).conditions.push(condition.clone());
        }
        for (path, order) in &query.orders {
            root.at(path, by_target).order.clone_from(order);
        }
        let windows: HashMap<_, _> = query.windows.iter().filter(|(path, _)| !path.is_empty()).collect();
        for (path, window) in windows {
            root.at(path, by_target).window = Bounds::Window(*window);
        }
        self.finish(&mut root, &name.name)?;
        self.check_aggregates(&root)?;
        Ok(root)
    }

    fn cap(&self) -> Option<u32> {
        self.settings.db_max_rows.filter(|_| self.capped)
    }

    fn node(
        &self,
        (name, depth): (&Name, usize),
        relation: Option<&'c Relation>,
        source: Source,
        items: &[Item],
    ) -> Result<Node<'c>> {
        let mut node = Node {
            relation,
            source,
            alias: numbered(&name.name, depth),
            fields: Vec::new(),
            conditions: Vec::new(),
            order: Vec::new(),
            window: Bounds::All,
            embeds: Vec::new(),
        };
        for item in items {
            match item {
                Item::Star => node.fields.push(Output::Star),
                Item::Column(column) => node.fields.push(Output::Column(column.clone())),
                Item::Embed(embed) => node.embeds.push(self.child((name, depth), embed)?),
            }
        }
        Ok(node)
    }

    fn child(&self, (origin, above): (&Name, usize), embed: &Embed) -> Result<Child<'c>> {
        let target = match self.settings.aliases.get(&embed.target) {
            Some(name) if name.schema == origin.schema => name.name.as_str(),
            _ => embed.target.as_str(),
        };
        let relationship = relationship::find(self.catalog, origin, target, embed.hint.as_deref())?;
        let relation = self.catalog.relation(&relationship.target);
        let source = Source::Relation(relationship.target.clone());
        let depth = above + 1;
        let mut node = self.node((&relationship.target, depth), relation, source, &embed.items)?;
        let to_one = relationship.is_to_one();
        // Where a key makes sure of one row, a limit would only keep the planner from joining as it likes.
        let one_by_key = to_one && matches!(relationship.link, Link::Key { .. });
        if let Some(cap) = self.cap().filter(|_| !one_by_key) {
            node.window = Bounds::Range(Range::default().capped(Some(cap)));
        }
        let key = embed.alias.clone().unwrap_or_else(|| embed.target.clone());
        // Two embeds of one name cannot both be shown: Postgres refuses what has the same name twice.
        let joined = numbered(&format!("{}_{key}", origin.name), depth);
        Ok(Child {
            node,
            key,
            target: embed.target.clone(),
            by_target: false,
            link: &relationship.link,
            to_one,
            inner: embed.join == Some(Join::Inner),
            spread: embed.spread,
            joined,
        })
    }

    /// Checks what can only be checked once everything has its place.
    fn finish(&self, node: &mut Node<'c>, name: &str) -> Result<()> {
        for term in &node.order {
            let Some(wanted) = &term.relation else { continue };
            let Some(child) = node.embed(wanted) else {
                return Err(not_embedded(wanted).into());
            };
            if !child.to_one {
                let message = format!("A related order on '{wanted}' is not possible");
                let details = format!("'{name}' and '{wanted}' do not form a many-to-one or one-to-one relationship");
                return Err(Error::bad("PGRST118", message).details(details).into());
            }
        }
        let cap = self.cap();
        for child in &mut node.embeds {
            if let (Bounds::Window(window), Some(cap)) = (&mut child.node.window, cap) {
                let cap = i64::from(cap);
                window.limit = Some(window.limit.map_or(cap, |limit| limit.min(cap)));
            }
            let target = child.target.clone();
            self.finish(&mut child.node, &target)?;
        }
        Ok(())
    }

    /// Makes sure that aggregates are allowed at all, and stand where they can be computed.
    fn check_aggregates(&self, node: &Node<'c>) -> Result<()> {
        if node.aggregates().next().is_some() && !self.settings.db_aggregates_enabled {
            return Err(Error::bad("PGRST123", "Use of aggregate functions is not allowed").into());
        }
        for child in &node.embeds {
            self.check_aggregates(&child.node)?;
            if child.spread && !child.to_one && child.node.has_aggregates() {
                let details = "Aggregates are not implemented for one-to-many or many-to-many spreads.";
                return Err(Error::bad("PGRST127", "Feature not implemented")
                    .details(details)
                    .into());
            }
        }
        Ok(())
    }
}

impl<'c> Node<'c> {
    /// The level a path leads to. [`check_paths`] has made sure that it is there.
    fn at(&mut self, path: &[String], by_target: bool) -> &mut Self {
        let Some((first, rest)) = path.split_first() else {
            return self;
        };
        let mut embeds = self.embeds.iter();
        match embeds.position(|child| is_meant(first, &child.key, &child.target, by_target)) {
            Some(found) => {
                let child = &mut self.embeds[found];
                child.by_target |= child.key != *first;
                child.node.at(rest, by_target)
            }
            None => self,
        }
    }

    /// What is embedded in it at any depth, and meant by its target's name though it has an alias: target and alias.
    pub fn called_by_target(&self) -> Vec<(&str, &str)> {
        let mut called = Vec::new();
        for child in &self.embeds {
            called.extend(child.by_target.then_some((child.target.as_str(), child.key.as_str())));
            called.extend(child.node.called_by_target());
        }
        called
    }

    fn aggregates(&self) -> impl Iterator<Item = &Column> {
        self.fields.iter().filter_map(|field| match field {
            Output::Column(column) if column.aggregate.is_some() => Some(column),
            _ => None,
        })
    }

    /// Whether its rows are grouped: by aggregates of its own, or of a row spread into it.
    pub fn has_aggregates(&self) -> bool {
        let spread = || self.embeds.iter().filter(|child| child.spread && child.to_one);
        self.aggregates().next().is_some() || spread().any(|child| child.node.has_aggregates())
    }

    /// Whether nothing is taken of it, nor of anything in it.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.embeds.iter().all(|child| child.node.is_empty())
    }

    /// Whether there is no limit on its rows.
    pub fn is_unlimited(&self) -> bool {
        matches!(self.window, Bounds::All) || self.window == Bounds::Range(Range::default())
    }

    /// What is embedded under this key.
    pub fn embed(&self, key: &str) -> Option<&Child<'c>> {
        self.embeds.iter().find(|child| child.key == key)
    }
}

/// A name within the statement, by how deep in the tree it is. A long one tells what it is for by its hash, as Postgres
/// cuts names at 63 bytes and two must not become one.
fn numbered(name: &str, depth: usize) -> String {
    if name.len() <= 56 {
        return format!("{name}_{depth}");
    }
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    format!("n_{:016x}_{depth}", hasher.finish())
}

/// Whether this name of an embed's key or target says that the embed is meant.
fn is_meant(name: &str, key: &str, target: &str, by_target: bool) -> bool {
    key == name || by_target && target == name
}

/// Makes sure that everything said about an embed is about one that is selected, and by its alias if it has one and
/// its target's name does not do.
fn check_paths(query: &Query, by_target: bool) -> Result<()> {
    let conditions = query.conditions.iter().map(|(path, _)| path);
    let orders = query.orders.iter().map(|(path, _)| path);
    for path in conditions.chain(orders).chain(query.windows.keys()) {
        let mut items = query.select.as_slice();
        for step in path {
            let embeds = || {
                items.iter().filter_map(|item| match item {
                    Item::Embed(embed) => Some((embed, embed.alias.as_ref().unwrap_or(&embed.target))),
                    _ => None,
                })
            };
            let found = embeds().find(|(embed, key)| is_meant(step, key, &embed.target, by_target));
            let Some((embed, _)) = found else {
                let error = not_embedded(step);
                return Err(match embeds().find(|(embed, _)| embed.target == *step) {
                    Some((_, alias)) => error
                        .details("Target names are not allowed in filters if they have an alias")
                        .hint(format!("Change '{step}' to '{alias}' in filters, orders or limits.")),
                    None => error,
                }
                .into());
            };
            items = &embed.items;
        }
    }
    Ok(())
}

fn not_embedded(name: &str) -> Error {
    Error::bad(
        "PGRST108",
        format!("'{name}' is not an embedded resource in this request"),
    )
    .hint(format!(
        "Verify that '{name}' is included in the 'select' query parameter."
    ))
}
