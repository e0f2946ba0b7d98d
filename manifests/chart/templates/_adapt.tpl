{{- /* Whether an object belongs to the installation: something, or nothing. */}}
{{- define "mcp-gateway.isWanted" -}}
{{- $kind := .object.kind -}}
{{- $isReader := and (eq $kind "ClusterRoleBinding") (eq .object.metadata.name "mcp-gateway-secret-reader") -}}
{{- $isController := and (eq $kind "ClusterRoleBinding") (eq .object.metadata.name "mcp-gateway-controller") -}}
{{- if not (or
    (and (eq $kind "Namespace") (not .Values.namespace.create))
    (and $isReader .Values.restrictedSecrets)
    (and $isController .Values.watchNamespaces)) -}}
yes
{{- end -}}
{{- end }}

{{- /* Change an object in place, as the kustomizations and their components do; prints nothing. */}}
{{- define "mcp-gateway.adapt" -}}
{{- $object := .object -}}
{{- $root := .root -}}
{{- $kind := $object.kind -}}
{{- if has .folder (list "base" "users") -}}
{{- $labels := dict "app.kubernetes.io/part-of" "mcp-gateway" -}}
{{- $_ := set $object.metadata "labels" (merge $labels (default dict $object.metadata.labels)) -}}
{{- end -}}
{{- if eq $kind "Namespace" -}}
{{- $_ := set $object.metadata "name" $root.Release.Namespace -}}
{{- else if eq $kind "CustomResourceDefinition" -}}
{{- if $root.Values.crds.keep -}}
{{- $_ := set $object.metadata "annotations" (dict "helm.sh/resource-policy" "keep") -}}
{{- end -}}
{{- else if not (hasPrefix "ClusterRole" $kind) -}}
{{- $_ := set $object.metadata "namespace" $root.Release.Namespace -}}
{{- else if and (eq .folder "base") (ne $root.Values.instance "default") -}}
{{- $_ := set $object.metadata "name" (printf "%s-%s" $object.metadata.name $root.Values.instance) -}}
{{- end -}}
{{- range $subject := $object.subjects -}}
{{- $_ := set $subject "namespace" $root.Release.Namespace -}}
{{- end -}}
{{- if and (eq $kind "ClusterRoleBinding") (ne $root.Values.instance "default") -}}
{{- $_ := set $object.roleRef "name" (printf "%s-%s" $object.roleRef.name $root.Values.instance) -}}
{{- end -}}
{{- if and (eq $kind "ServiceAccount") $root.Values.image.pullSecrets -}}
{{- $_ := set $object "imagePullSecrets" $root.Values.image.pullSecrets -}}
{{- end -}}
{{- if and (eq $kind "Service") (eq .folder "base") $root.Values.service.nodePort -}}
{{- $_ := set $object.spec "type" "NodePort" -}}
{{- $_ := set (first $object.spec.ports) "nodePort" (int $root.Values.service.nodePort) -}}
{{- end -}}
{{- if and (eq $kind "Role") (eq $object.metadata.name "mcp-gateway-controller") $root.Values.watchNamespaces -}}
{{- $verbs := list "get" "list" "watch" -}}
{{- $grants := dict "apiGroups" (list "gateway.networking.k8s.io") "resources" (list "referencegrants") "verbs" $verbs -}}
{{- $_ := set $object "rules" (append $object.rules $grants) -}}
{{- end -}}
{{- if eq $kind "Deployment" -}}
{{- include "mcp-gateway.adaptDeployment" (dict "spec" $object.spec "name" $object.metadata.name "root" $root) -}}
{{- end -}}
{{- end }}

{{- /* The same for what is special about a Deployment. */}}
{{- define "mcp-gateway.adaptDeployment" -}}
{{- $values := .root.Values -}}
{{- $container := first .spec.template.spec.containers -}}
{{- $own := $values.dataPlane -}}
{{- if eq .name "mcp-gateway-controller" -}}
{{- $own = $values.controller -}}
{{- $_ := set .spec "replicas" (int $own.replicas) -}}
{{- if $values.watchNamespaces -}}
{{- $_ := set $container "args" (append $container.args "--watch-namespaces=$(WATCH_NAMESPACES)") -}}
{{- $watched := dict "name" "WATCH_NAMESPACES" "value" (join "," $values.watchNamespaces) -}}
{{- $_ := set $container "env" (append $container.env $watched) -}}
{{- end -}}
{{- end -}}
{{- $tag := default .root.Chart.AppVersion $values.image.tag -}}
{{- $_ := set $container "image" (printf "%s:%s" $values.image.repository $tag) -}}
{{- $_ := set $container "resources" (mergeOverwrite $container.resources $own.resources) -}}
{{- $args := concat $container.args $own.args -}}
{{- if ne $values.instance "default" -}}
{{- $args = append $args (printf "--instance=%s" $values.instance) -}}
{{- end -}}
{{- $_ := set $container "args" $args -}}
{{- end }}
