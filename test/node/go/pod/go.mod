module eniboot/pod

go 1.23
