//! `data.weft_images`: every image that fits, the newest first.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostics, Nesting, Schema, Type, Value,
    async_trait,
};

use super::filter::Filter;
use super::image::fitting;
use crate::agent::Agent;
use crate::kind::Kind;

#[derive(Debug)]
pub(crate) struct Images(pub(crate) Arc<Agent>);

const NOUN: &str = "images";

#[async_trait]
impl DataSource for Images {
    fn type_name(&self) -> &str {
        "weft_images"
    }

    fn schema(&self) -> Schema {
        let resource = crate::image::Image::schema();
        Schema::new("The registered images that fit, the newest first. None is no error.")
            .subcategory("Compute")
            .attributes(Filter::attributes())
            .attributes(super::image::filters())
            .attribute(Attribute::list("ids", Type::String, "Their ids.").computed())
            .attribute(
                Attribute::nested(
                    "images",
                    Nesting::List,
                    "The images, in the order of `ids`.",
                    super::shown("weft_image", &resource, &[]),
                )
                .computed(),
            )
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem| super::fail(NOUN, &problem);
        let mut found = fitting(&connection, &Filter::read(&ctx.config)?).await.map_err(failed)?;
        super::image::narrow(&ctx.config, false, &mut found);
        let images = found
            .into_iter()
            .map(crate::image::Image::state)
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        Ok(super::plural("images", images, &ctx.config))
    }
}
