terraform import weft_instance_type.build type-0123456789abcdef0
# or by name
terraform import weft_instance_type.build build.large
