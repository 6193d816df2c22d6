//! Data sources that find every object of a resource's kind that fits, as [`super::found`] finds one.

use std::marker::PhantomData;
use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Type, Value,
    async_trait,
};

use super::filter::Filter;
use super::found::{Lookup, existing};
use crate::agent::Agent;

/// The data source of all objects of such a kind: `weft_vpcs`, where one is a `weft_vpc`.
#[derive(Debug)]
pub(crate) struct FoundAll<K> {
    agent: Arc<Agent>,
    type_name: String,
    kind: PhantomData<K>,
}

impl<K: Lookup> FoundAll<K> {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, type_name: format!("{}s", K::TYPE), kind: PhantomData }
    }
}

/// As people call them: `security groups`.
fn nouns<K: Lookup>() -> String {
    format!("{}s", K::NOUN)
}

/// As the attribute is called that has the objects: `security_groups`.
fn objects<K: Lookup>() -> String {
    nouns::<K>().to_lowercase().replace([' ', '-'], "_")
}

#[async_trait]
impl<K: Lookup> DataSource for FoundAll<K> {
    fn type_name(&self) -> &str {
        &self.type_name
    }

    fn schema(&self) -> Schema {
        let resource = K::schema();
        let filters = K::filters();
        let mut shown = super::shown(K::TYPE, &resource, &["tags"]);
        // What only a data source knows of an object.
        let own = filters.iter().filter(|filter| resource.get(filter.name()).is_none());
        shown.extend(own.map(|filter| filter.shown("As it is asked for above.")));
        let nouns = nouns::<K>();
        let text = format!("The {nouns} that fit all that is asked for. None is no error.");
        Schema::new(text)
            .subcategory(K::SUBCATEGORY)
            .attributes(Filter::attributes())
            .attributes(filters)
            .attribute(Attribute::list("ids", Type::String, "Their ids.").computed())
            .attribute(
                Attribute::nested(
                    objects::<K>(),
                    Nesting::List,
                    format!("The {nouns}, in the order of `ids`."),
                    shown,
                )
                .computed(),
            )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let nouns = nouns::<K>();
        let connection = super::connection(&self.agent, &nouns)?;
        let filter = Filter::read(&ctx.config)?;
        let names: Vec<String> = K::filters().iter().map(|one| one.name().to_owned()).collect();
        let found = existing::<K>(&connection, filter.request(), &ctx.config, &names).await;
        let mut found = found.map_err(|problem| super::fail(&nouns, &problem))?;
        found.retain(|values| filter.fits(values.get(K::NAME).as_str().unwrap_or_default()));
        Ok(super::plural(&objects::<K>(), found, &ctx.config))
    }
}
