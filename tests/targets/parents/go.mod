module parents

go 1.19
