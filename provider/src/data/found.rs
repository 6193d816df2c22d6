//! Data sources that find one object of a resource's kind: by its id, or by its name and by what
//! else distinguishes it.

use std::marker::PhantomData;
use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostic, Diagnostics, Schema, ValidateContext,
    Validator, Value, async_trait,
};
use weft_model::Problem;
use weft_proto::v1;

use crate::agent::reads::{self, Claim};
use crate::agent::{Agent, Connection};
use crate::checks;
use crate::kind::wire::Listed;
use crate::kind::{self, Kind};

/// What differs between them.
pub(crate) trait Lookup: Kind<Wire: Listed> + std::fmt::Debug {
    /// Of the data source.
    const DESCRIPTION: &'static str;
    const SUBCATEGORY: &'static str = "Network";
    /// The attribute with the name.
    const NAME: &'static str = "name";

    /// What an id has to look like.
    fn id_rule() -> Validator;

    /// What it is looked for by besides its name. An object has the same attributes, in its
    /// resource's state or by [`Self::more`].
    fn filters() -> Vec<Attribute> {
        Vec::new()
    }

    /// What the resource does not say of its object.
    fn more(_wire: &Self::Wire) -> Vec<(&'static str, Value)> {
        Vec::new()
    }
}

/// The data source of such a kind.
#[derive(Debug)]
pub(crate) struct Found<K> {
    agent: Arc<Agent>,
    kind: PhantomData<K>,
}

#[async_trait]
impl<K: Lookup> DataSource for Found<K> {
    fn type_name(&self) -> &str {
        K::TYPE
    }

    fn schema(&self) -> Schema {
        let (id, name) = match asked_by::<K>().as_slice() {
            [_] => (
                format!("Which, by id. Either this or `{}`.", K::NAME),
                "Which, by name; it has to be the only one of that name.",
            ),
            _ => ("Which, by id; then by nothing else.".to_owned(), "By name. One has to fit."),
        };
        let resource = K::schema();
        let without: Vec<String> =
            asked_by::<K>().into_iter().chain(["id", "tags"].map(str::to_owned)).collect();
        let without: Vec<&str> = without.iter().map(String::as_str).collect();
        Schema::new(K::DESCRIPTION)
            .subcategory(K::SUBCATEGORY)
            .attribute(Attribute::string("id", id).optional_computed().validate(K::id_rule()))
            .attribute(
                Attribute::string(K::NAME, name).optional_computed().validate(checks::name()),
            )
            .attributes(K::filters().into_iter().map(Attribute::optional_computed))
            .attributes(super::shown(K::TYPE, &resource, &without))
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        let others = asked_by::<K>();
        let id = ctx.config.get("id");
        let is_set = |name: &&String| ctx.config.get(name.as_str()).is_set();
        let set: Vec<&str> = others.iter().filter(is_set).map(String::as_str).collect();
        if id.is_set() && !set.is_empty() {
            return Diagnostic::error(format!("Either id or {}", set.join(" and ")))
                .cause(format!("the {} is looked up by its id or by what else it has", K::NOUN))
                .remedy("Leave one of both out")
                .into();
        }
        let is_null = |name: &String| ctx.config.get(name.as_str()).is_null();
        if id.is_null() && others.iter().all(is_null) {
            return Diagnostic::error(format!("Nothing says which {}", K::NOUN))
                .cause(format!("neither id nor {} is set", others.join(" nor ")))
                .remedy("Set one of them")
                .into();
        }
        Diagnostics::new()
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.agent, K::NOUN)?;
        let values = match ctx.config.read::<Option<String>>("id")? {
            Some(id) => by_id::<K>(&connection, &id).await,
            None => by_others::<K>(&connection, &ctx.config).await,
        };
        Ok(super::answer(values?, &ctx.config, &DataSource::schema(self)))
    }
}

impl<K> Found<K> {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, kind: PhantomData }
    }
}

/// The attributes that say which one, besides `id`.
fn asked_by<K: Lookup>() -> Vec<String> {
    let filters = K::filters();
    let filters = filters.iter().map(|attribute| attribute.name().to_owned());
    std::iter::once(K::NAME.to_owned()).chain(filters).collect()
}

fn failed<K: Kind>(problem: Problem) -> Diagnostics {
    super::fail(K::NOUN, &problem)
}

/// What the data source shows of an object.
fn values<K: Lookup>(wire: K::Wire) -> Result<Value, Problem> {
    let more = K::more(&wire);
    let mut values = K::state(wire)?;
    for (name, value) in more {
        values.set(name, value);
    }
    if let Value::Map(entries) = &mut values {
        entries.remove("tags");
    }
    Ok(values)
}

async fn by_id<K: Lookup>(connection: &Arc<Connection>, id: &str) -> Result<Value, Diagnostics> {
    let found = reads::read::<K>(connection, id, Claim::No).await.map_err(failed::<K>)?;
    let missing = || Problem::not_found(format!("{id} does not exist")).at("id");
    values::<K>(found.ok_or_else(|| failed::<K>(missing()))?).map_err(failed::<K>)
}

/// The only one that has what `config` asks for. The agent looks at names; what else there is to
/// look at, one host has little enough of.
async fn by_others<K: Lookup>(
    connection: &Connection,
    config: &Value,
) -> Result<Value, Diagnostics> {
    let name = config.get(K::NAME).as_str().unwrap_or_default().to_owned();
    let request = v1::ListRequest { name, ..Default::default() };
    let asked = asked_by::<K>();
    let found = existing::<K>(connection, request, config, &asked).await.map_err(failed::<K>)?;
    let asked: Vec<String> =
        set(config, &asked).map(|(name, value)| format!("{name} = {value}")).collect();
    <[Value; 1]>::try_from(found)
        .map(|[values]| values)
        .map_err(|found| not_one::<K>(&found, &asked.join(" and ")))
}

/// The attributes called `names` that are set.
fn set<'a>(config: &'a Value, names: &'a [String]) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let asked = names.iter().map(|name| (name.as_str(), config.get(name.as_str())));
    asked.filter(|(_, value)| value.is_set())
}

/// What data sources show of the objects that `request` finds and that have what `config` asks for by
/// the attributes called `names`.
pub(super) async fn existing<K: Lookup>(
    connection: &Connection,
    request: v1::ListRequest,
    config: &Value,
    names: &[String],
) -> Result<Vec<Value>, Problem> {
    let mut found = Vec::new();
    for wire in kind::existing::<K>(connection, request).await? {
        let values = values::<K>(wire)?;
        if set(config, names).all(|(name, value)| values.get(name) == value) {
            found.push(values);
        }
    }
    Ok(found)
}

fn not_one<K: Lookup>(found: &[Value], asked: &str) -> Diagnostics {
    let ids: Vec<&str> = found.iter().filter_map(|values| values.get("id").as_str()).collect();
    if ids.is_empty() {
        let listed = kind::listed::<K>();
        let remedy =
            format!("Check what is asked for, or use id; weft ls {listed} shows what there is");
        return super::not_one(K::NOUN, format!("no {} has {asked}", K::NOUN), &remedy);
    }
    let remedy = match asked_by::<K>().as_slice() {
        [_] => "Use id".to_owned(),
        several => format!("Use id, or more of {}", several.join(", ")),
    };
    super::not_one(K::NOUN, format!("{} have {asked}: {}", ids.len(), ids.join(", ")), &remedy)
}
