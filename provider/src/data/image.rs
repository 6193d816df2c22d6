//! `data.weft_image`: an image by id, name, pattern or tags.

use std::sync::Arc;

use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostic, Diagnostics, Schema, ValidateContext,
    Validator, Value, async_trait,
};
use weft_model::{Architecture, ImageId, Problem};
use weft_proto::v1;

use super::filter::Filter;
use super::newest;
use crate::agent::{Agent, Connection};
use crate::checks;
use crate::kind::Kind;
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct Image(pub(crate) Arc<Agent>);

const NOUN: &str = "image";
const FILTERS: [&str; 4] = ["id", "name", "name_regex", "tags"];
/// Which of those that fit are meant.
const NARROWING: [&str; 2] = ["architecture", "include_deprecated"];

#[async_trait]
impl DataSource for Image {
    fn type_name(&self) -> &str {
        "weft_image"
    }

    fn schema(&self) -> Schema {
        let resource = crate::image::Image::schema();
        Schema::new("An image that is registered already, by id, name, pattern or tags.")
            .subcategory("Compute")
            .attribute(
                Attribute::string("id", "By its id.").optional_computed().validate(checks::id::<
                    ImageId,
                >(
                    ImageId::PREFIX,
                    "an image",
                )),
            )
            .attributes(Filter::attributes().map(|attribute| match attribute.name() {
                "name_regex" => attribute,
                _ => attribute.optional_computed(),
            }))
            .attributes(filters())
            .attribute(newest::attribute())
            .attributes(super::shown(
                "weft_image",
                &resource,
                &[FILTERS.as_slice(), &NARROWING].concat(),
            ))
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        if FILTERS.iter().all(|name| ctx.config.get(*name).is_null()) {
            return Diagnostic::error("Which image?")
                .cause("nothing says which image is meant")
                .remedy("Set id, name, name_regex or tags")
                .into();
        }
        Diagnostics::new()
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem: Problem| super::fail(NOUN, &problem);
        let config = &ctx.config;
        let filter = Filter::read(config)?;
        let id: Option<String> = config.read("id")?;
        let mut fitting = fitting(&connection, &filter).await.map_err(failed)?;
        // Who names one by its id knows which.
        narrow(config, id.is_some(), &mut fitting);
        fitting.retain(|image| id.is_none() || id == image.metadata.as_ref().map(|m| m.id.clone()));
        let Some(wire) = newest::one_of(fitting, config, NOUN)? else {
            let remedy = "Check id, name, name_regex, tags and architecture, or register the image first; deprecated ones need include_deprecated = true";
            return Err(super::not_one(NOUN, "no image fits".to_owned(), remedy));
        };
        let values = crate::image::Image::state(wire).map_err(failed)?;
        Ok(super::answer(values, config, &DataSource::schema(self)))
    }
}

/// Filters that images have besides those of all objects.
pub(super) fn filters() -> [Attribute; 2] {
    [
        Attribute::string("architecture", "Only images for this processor, such as `x86_64`.")
            .optional_computed()
            .validate(Validator::one_of(Architecture::WORDS.iter().copied())),
        Attribute::bool(
            "include_deprecated",
            "Whether images with `deprecated = true` are looked at too; by `id` they always are.",
        ),
    ]
}

/// Leaves those that `config` means.
pub(super) fn narrow(config: &Value, by_id: bool, images: &mut Vec<v1::Image>) {
    let all = by_id || config.get("include_deprecated").as_bool() == Some(true);
    let architecture = config.get("architecture").as_str();
    images.retain(|image| {
        let Some(spec) = &image.spec else { return false };
        (all || !spec.deprecated) && architecture.is_none_or(|word| spec.architecture == word)
    });
}

/// The images that `filter` lets through, the newest first.
pub(super) async fn fitting(
    connection: &Connection,
    filter: &Filter,
) -> Result<Vec<v1::Image>, Problem> {
    let list = connection
        .call(|channel| {
            let request = filter.request();
            async move { v1::Image::client(channel).list(request).await }
        })
        .await?;
    let name = |image: &v1::Image| image.spec.as_ref().map_or("", |spec| &spec.name).to_owned();
    let mut images: Vec<_> =
        list.items.into_iter().filter(|image| filter.fits(&name(image))).collect();
    newest::sort(&mut images);
    Ok(images)
}
