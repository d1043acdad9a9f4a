//! Finds out what the policies of a table read, for one role, by walking their trees. Whatever is not known to be
//! harmless is refused: a tag, a function, a kind of table that is missing here costs questions, never a wrong answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
};

use super::{
    catalog::{Catalog, Function, Relation},
    claims::Claims,
    constant,
    query::{Use, conjuncts, equal, function, is_simple, one_row, statement},
    tree::{Node, Value},
};

/// Nodes looked at for one table and role at most, those of functions at each call.
const MAX_NODES: usize = 100_000;

/// Nodes whose value follows from those inside them.
const PLAIN: [&str; 22] = [
    "ALIAS",
    "ARRAYCOERCEEXPR",
    "ARRAYEXPR",
    "BOOLEANTEST",
    "BOOLEXPR",
    "CASEEXPR",
    "CASETESTEXPR",
    "CASEWHEN",
    "COALESCEEXPR",
    "CONST",
    "FROMEXPR",
    "JOINEXPR",
    "NULLTEST",
    "RANGETBLFUNCTION",
    "RANGETBLREF",
    "RELABELTYPE",
    "SORTGROUPCLAUSE",
    "TARGETENTRY",
    "RTEPERMISSIONINFO",
    "DISTINCTEXPR",
    "NULLIFEXPR",
    "OPEXPR",
];

/// Why policies are not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(pub String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Reason> {
    Err(Reason(reason.into()))
}

/// What policies read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Columns of the row that is judged.
    pub own: BTreeSet<i16>,
    /// Other rows, by table.
    pub sources: BTreeMap<u32, Source>,
    /// Of the caller.
    pub claims: Claims,
}

/// What is read of another table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Columns.
    pub columns: BTreeSet<i16>,
    /// Where only rows count whose second column equals our first, wherever the table is read.
    pub tie: Option<(i16, i16)>,
}

/// What the select policies of a table read for a role.
///
/// # Errors
/// Why that is not known completely.
pub fn read(catalog: &Catalog, table: u32, role: u32) -> Result<Reads, Reason> {
    let mut reader = Reader {
        catalog,
        reads: Reads::default(),
        judged: HashSet::new(),
        calls: Vec::new(),
        nodes: 0,
    };
    reader.relation(table)?;
    reader.policies(table, role, Row::Own)?;
    Ok(reader.reads)
}

struct Reader<'c> {
    catalog: &'c Catalog,
    reads: Reads,
    /// Tables and roles whose policies have been read.
    judged: HashSet<(u32, u32)>,
    /// Functions under way.
    calls: Vec<u32>,
    nodes: usize,
}

/// Whose columns a policy's expression names.
#[derive(Clone, Copy)]
enum Row {
    /// The row that is judged.
    Own,
    /// A row of this table.
    Of(u32),
}

/// What a level of variables refers to.
#[derive(Clone)]
enum Scope<'t> {
    Row(Row),
    Query(&'t [Value<'t>]),
}

/// One policy's expression, or one function's body.
struct Frame<'t> {
    role: u32,
    scopes: Vec<Scope<'t>>,
    /// Which arguments are columns of the row that is judged.
    params: Vec<Option<i16>>,
}

impl Reader<'_> {
    fn relation(&self, oid: u32) -> Result<&Relation, Reason> {
        match self.catalog.relations.get(&oid) {
            Some(relation) => Ok(relation),
            None => refuse("a view, a partitioned or inherited table, or another one that is not ordinary"),
        }
    }

    fn policies(&mut self, table: u32, role: u32, row: Row) -> Result<(), Reason> {
        if !self.relation(table)?.restricted.contains(&role) {
            return Ok(());
        }
        let catalog = self.catalog;
        let for_it = |policy: &&super::catalog::Policy| policy.relation == table && policy.roles.contains(&role);
        for policy in catalog.policies.iter().filter(for_it) {
            let Some(using) = &policy.using else { continue };
            let tree = Value::parse(using).ok_or(Reason("a policy is no tree we can read".into()))?;
            let mut frame = Frame {
                role,
                scopes: vec![Scope::Row(row)],
                params: Vec::new(),
            };
            self.value(&tree, &mut frame)?;
        }
        Ok(())
    }

    fn value<'t>(&mut self, value: &'t Value<'t>, frame: &mut Frame<'t>) -> Result<(), Reason> {
        match value {
            Value::Node(node) => self.node(node, frame),
            Value::List(values) => values.iter().try_for_each(|value| self.value(value, frame)),
            Value::Word(_) | Value::Nothing => Ok(()),
        }
    }

    fn inside<'t>(&mut self, node: &'t Node<'t>, frame: &mut Frame<'t>) -> Result<(), Reason> {
        node.values().try_for_each(|value| self.value(value, frame))
    }

    fn node<'t>(&mut self, node: &'t Node<'t>, frame: &mut Frame<'t>) -> Result<(), Reason> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return refuse("too large");
        }
        if let Some(place) = self.claim(node) {
            self.reads.claims.read(place);
            return Ok(());
        }
        match node.tag {
            "VAR" => self.variable(node, frame),
            "FUNCEXPR" => self.call(node, frame),
            "OPEXPR" | "NULLIFEXPR" | "DISTINCTEXPR" => {
                self.pure(node.number("opfuncid"))?;
                self.inside(node, frame)
            }
            "SCALARARRAYOPEXPR" => {
                self.pure(node.number("opfuncid"))?;
                for argument in node.get("args").list() {
                    match argument.node() {
                        // In no order: `= any (array(select ..))`.
                        Some(list) if list.tag == "SUBLINK" && list.number("subLinkType") == Some(6) => {
                            self.sub_select(list, Use::Any(None), frame)?;
                        }
                        _ => self.value(argument, frame)?,
                    }
                }
                Ok(())
            }
            "COERCEVIAIO" => match node.number("resulttype") {
                Some(of) if self.catalog.types.contains(&of) => self.inside(node, frame),
                _ => refuse("a cast that may depend on more than its value"),
            },
            "SUBLINK" => {
                self.value(node.get("testexpr"), frame)?;
                let how = match node.number("subLinkType") {
                    Some(0) => Use::Exists,
                    Some(1) => Use::Any(None),
                    Some(2) => Use::Any(self.tested(node, frame)),
                    Some(4) => Use::Value,
                    Some(6) => Use::List,
                    _ => return refuse("an unknown kind of sub-select"),
                };
                self.sub_select(node, how, frame)
            }
            "PARAM" => match node.number("paramkind") {
                // A function's argument, looked at where it is called; a value of the sub-select beside it.
                Some(0 | 2) => Ok(()),
                _ => refuse("an unknown kind of parameter"),
            },
            tag if PLAIN.contains(&tag) => self.inside(node, frame),
            tag => refuse(format!("the expression {tag}")),
        }
    }

    fn pure(&self, function: Option<u32>) -> Result<(), Reason> {
        match function {
            Some(oid) if self.catalog.immutable.contains(&oid) => Ok(()),
            _ => refuse("an operator that may depend on more than its values"),
        }
    }

    fn variable<'t>(&mut self, node: &Node<'_>, frame: &mut Frame<'t>) -> Result<(), Reason> {
        let (Some(level), Some(number)) = (level(node, frame), node.number::<i16>("varattno")) else {
            return refuse("a variable of nowhere");
        };
        if number <= 0 {
            return refuse("a row as a whole, or a system column");
        }
        match frame.scopes[level].clone() {
            Scope::Row(Row::Own) => _ = self.reads.own.insert(number),
            Scope::Row(Row::Of(table)) => _ = self.source(table).columns.insert(number),
            Scope::Query(entries) => {
                let Some(entry) = entry(node, entries) else {
                    return refuse("a variable of nowhere");
                };
                match entry.number("rtekind") {
                    Some(0) => {
                        _ = self
                            .source(entry.number("relid").unwrap_or_default())
                            .columns
                            .insert(number)
                    }
                    Some(1 | 3) => {}
                    // A column of a join stands for one of what is joined.
                    Some(2) => {
                        let columns = entry.get("joinaliasvars").list();
                        let column = usize::try_from(number - 1).ok().and_then(|at| columns.get(at));
                        let Some(column) = column else {
                            return refuse("a variable of nowhere");
                        };
                        let above = frame.scopes.split_off(level + 1);
                        self.value(column, frame)?;
                        frame.scopes.extend(above);
                    }
                    _ => return refuse("an unknown kind of table"),
                }
            }
        }
        Ok(())
    }

    fn source(&mut self, table: u32) -> &mut Source {
        self.reads.sources.entry(table).or_default()
    }

    fn call<'t>(&mut self, node: &'t Node<'t>, frame: &mut Frame<'t>) -> Result<(), Reason> {
        let Some(oid) = node.number("funcid") else {
            return refuse("a function without a name");
        };
        let arguments = node.get("args");
        if function::CURRENT_SETTING.contains(&oid) {
            let name = arguments.list().first().and_then(Value::node).and_then(Node::constant);
            return match name.as_deref().and_then(constant::text) {
                Some(name) if name == "request.jwt.claims" || name.starts_with("request.jwt.claim.") => {
                    self.reads.claims.read(Vec::new());
                    Ok(())
                }
                _ => refuse("a setting"),
            };
        }
        self.value(arguments, frame)?;
        if self.catalog.immutable.contains(&oid) {
            return Ok(());
        }
        let catalog = self.catalog;
        let Some(function) = catalog.functions.get(&oid) else {
            return refuse("a function that is neither immutable nor written as begin atomic");
        };
        let params = arguments
            .list()
            .iter()
            .map(|argument| own_column(argument, frame))
            .collect();
        // A default is put in when the query is planned, and may be anything.
        if arguments.list().len() != function.arguments {
            return refuse(format!("{} is called with defaults", function.name));
        }
        if self.calls.contains(&oid) {
            return refuse(format!("{} calls itself", function.name));
        }
        self.calls.push(oid);
        self.body(function, function.runs_as.unwrap_or(frame.role), params)?;
        self.calls.pop();
        Ok(())
    }

    fn body(&mut self, function: &Function, role: u32, params: Vec<Option<i16>>) -> Result<(), Reason> {
        if !function.settled {
            return refuse(format!("{} has settings of its own", function.name));
        }
        let tree = Value::parse(&function.body).ok_or(Reason(format!("{} is no tree we can read", function.name)))?;
        let mut frame = Frame {
            role,
            scopes: Vec::new(),
            params,
        };
        let Some(query) = statement(&tree) else {
            return refuse(format!("{} is not one query", function.name));
        };
        // Of several rows such a function gives the first, whichever that is.
        if !function.returns_set && !one_row(query) {
            return refuse(format!("{} may find several rows", function.name));
        }
        let how = if function.returns_set {
            Use::Any(None)
        } else {
            Use::Value
        };
        self.query(query, how, &mut frame)
            .map_err(|Reason(reason)| Reason(format!("{reason} in {}", function.name)))
    }

    /// A claim by its place, where an expression is nothing else: `auth.uid()`, `auth.jwt() -> 'a' ->> 'b'`.
    fn claim(&self, node: &Node<'_>) -> Option<Vec<String>> {
        let arguments = node.get("args").list();
        match node.tag {
            "FUNCEXPR" => {
                let function = self.catalog.functions.get(&node.number("funcid")?)?;
                let known = super::auth::claim(&function.name, function.source.as_deref()?)?;
                Some(known.iter().map(|name| (*name).to_owned()).collect())
            }
            "SUBLINK" if node.number("subLinkType") == Some(4) => {
                let query = node.get("subselect").node()?;
                let [target] = query.get("targetList").list() else {
                    return None;
                };
                let bare = query.get("rtable").list().is_empty() && one_row(query) && is_simple(query, Use::Value);
                let filtered = query.get("jointree").node()?.get("quals") != &Value::Nothing;
                self.claim(target.node()?.get("expr").node()?)
                    .filter(|_| bare && !filtered)
            }
            "OPEXPR" => {
                let (function, [of, name]) = (node.number("opfuncid")?, arguments) else {
                    return None;
                };
                let name = name.node().filter(|name| name.tag == "CONST")?.constant()?;
                let names = if function::FIELD.contains(&function) {
                    vec![constant::text(&name)?.to_owned()]
                } else if function::PATH.contains(&function) {
                    constant::texts(&name)?
                } else {
                    return None;
                };
                // Only the whole of the claims has fields: `auth.uid()` is no JSON.
                let mut place = self.claim(of.node()?)?;
                place.extend(names);
                Some(place)
            }
            _ => None,
        }
    }

    /// The column of ours that `in (select ..)` compares.
    fn tested(&self, sublink: &Node<'_>, frame: &Frame<'_>) -> Option<i16> {
        let test = sublink.get("testexpr").node()?;
        let [ours, theirs] = equal(test)?;
        let theirs = theirs.node()?;
        (theirs.tag == "PARAM" && theirs.number("paramkind") == Some(2) && theirs.number("paramid") == Some(1))
            .then(|| own_column(ours, frame))?
    }

    fn sub_select<'t>(&mut self, sublink: &'t Node<'t>, how: Use, frame: &mut Frame<'t>) -> Result<(), Reason> {
        match sublink.get("subselect").node() {
            Some(query) => self.query(query, how, frame),
            None => refuse("a sub-select without a query"),
        }
    }

    fn query<'t>(&mut self, query: &'t Node<'t>, how: Use, frame: &mut Frame<'t>) -> Result<(), Reason> {
        if query.tag != "QUERY" || !is_simple(query, how) {
            return refuse("a query with more than tables and conditions");
        }
        let entries = query.get("rtable").list();
        frame.scopes.push(Scope::Query(entries));
        let ties = self.ties(query, how, frame);
        for (at, entry) in entries.iter().enumerate() {
            let Some(entry) = entry.node().filter(|entry| entry.tag == "RANGETBLENTRY") else {
                return refuse("an unknown kind of table");
            };
            let plain = ["tablesample", "securityQuals"]
                .iter()
                .all(|field| entry.get(field) == &Value::Nothing);
            match entry.number("rtekind") {
                Some(0) if plain && entry.get("subquery") == &Value::Nothing => {
                    let table = entry.number("relid").unwrap_or_default();
                    self.table(table, ties.get(&(at + 1)).copied(), frame.role)?;
                }
                Some(1) => match entry.get("subquery").node() {
                    Some(query) => self.query(query, Use::Any(None), frame)?,
                    None => return refuse("a sub-select without a query"),
                },
                Some(2) => {}
                Some(3) if !entry.is("funcordinality") => self.value(entry.get("functions"), frame)?,
                _ => return refuse("an unknown kind of table"),
            }
        }
        self.value(query.get("jointree"), frame)?;
        // Nobody looks at what `exists` selects, unless it makes rows.
        if how != Use::Exists || query.is("hasTargetSRFs") {
            self.value(query.get("targetList"), frame)?;
        }
        frame.scopes.pop();
        Ok(())
    }

    /// A table is read, by a role.
    fn table(&mut self, oid: u32, tie: Option<(i16, i16)>, role: u32) -> Result<(), Reason> {
        let relation = self.relation(oid)?;
        let tie = tie.filter(|(_, theirs)| relation.columns.get(theirs).is_some_and(|column| column.identity));
        match self.reads.sources.get_mut(&oid) {
            // Wherever it is read it has to be tied in the same way.
            Some(known) if known.tie != tie => known.tie = None,
            Some(_) => {}
            None => {
                let columns = BTreeSet::new();
                self.reads.sources.insert(oid, Source { columns, tie });
            }
        }
        if self.judged.insert((oid, role)) {
            self.policies(oid, role, Row::Of(oid))?;
        }
        Ok(())
    }

    /// Which tables of a query, by their place, count only where a column of theirs equals one of ours.
    fn ties(&self, query: &Node<'_>, how: Use, frame: &Frame<'_>) -> BTreeMap<usize, (i16, i16)> {
        let (mut conditions, mut ties) = (Vec::new(), BTreeMap::new());
        if query
            .get("jointree")
            .node()
            .is_none_or(|tree| conjuncts(tree, &mut conditions).is_none())
        {
            return ties;
        }
        let column = |value: &Value<'_>| {
            let variable = value
                .node()
                .filter(|node| node.tag == "VAR" && node.number("varlevelsup") == Some(0))?;
            Some((variable.number::<usize>("varno")?, variable.number::<i16>("varattno")?))
        };
        for condition in conditions.iter().filter_map(|condition| equal(condition)) {
            for (theirs, ours) in [(&condition[0], &condition[1]), (&condition[1], &condition[0])] {
                if let (Some((at, theirs)), Some(ours)) = (column(theirs), own_column(ours, frame)) {
                    ties.insert(at, (ours, theirs));
                }
            }
        }
        if let Use::Any(Some(ours)) = how {
            let first = query.get("targetList").list().first().and_then(Value::node);
            let tied = first
                .and_then(|target| column(target.get("expr")))
                .filter(|(at, theirs)| {
                    // A null beside the values makes "in" unknown instead of false.
                    let entry = at
                        .checked_sub(1)
                        .and_then(|at| query.get("rtable").list().get(at)?.node());
                    entry
                        .and_then(|entry| self.catalog.relations.get(&entry.number("relid")?)?.columns.get(theirs))
                        .is_some_and(|column| column.not_null)
                });
            if let Some((at, theirs)) = tied {
                ties.insert(at, (ours, theirs));
            }
        }
        ties
    }
}

/// Which scope a variable belongs to.
fn level(variable: &Node<'_>, frame: &Frame<'_>) -> Option<usize> {
    frame
        .scopes
        .len()
        .checked_sub(variable.number::<usize>("varlevelsup")? + 1)
}

fn entry<'t>(variable: &Node<'_>, entries: &'t [Value<'t>]) -> Option<&'t Node<'t>> {
    entries.get(variable.number::<usize>("varno")?.checked_sub(1)?)?.node()
}

/// The column of the judged row that a value is.
fn own_column(value: &Value<'_>, frame: &Frame<'_>) -> Option<i16> {
    let node = value.node()?;
    match node.tag {
        "VAR" => match frame.scopes.get(level(node, frame)?)? {
            Scope::Row(Row::Own) => node.number::<i16>("varattno").filter(|number| *number > 0),
            _ => None,
        },
        "PARAM" if node.number("paramkind") == Some(0) => {
            *frame.params.get(node.number::<usize>("paramid")?.checked_sub(1)?)?
        }
        _ => None,
    }
}
