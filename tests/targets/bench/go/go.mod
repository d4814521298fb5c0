module ecosystems

go 1.19
