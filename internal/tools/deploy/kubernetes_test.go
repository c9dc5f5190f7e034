package deploy

import (
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/stretchr/testify/require"
)

const folder = "../../../deploy/kubernetes/"

// kinds are the types that the files may have.
var kinds = map[string]func() metav1.Object{
	"v1 Namespace":                  func() metav1.Object { return new(corev1.Namespace) },
	"v1 ConfigMap":                  func() metav1.Object { return new(corev1.ConfigMap) },
	"v1 Secret":                     func() metav1.Object { return new(corev1.Secret) },
	"v1 Service":                    func() metav1.Object { return new(corev1.Service) },
	"apps/v1 StatefulSet":           func() metav1.Object { return new(appsv1.StatefulSet) },
	"batch/v1 Job":                  func() metav1.Object { return new(batchv1.Job) },
	"policy/v1 PodDisruptionBudget": func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
}

// render returns the objects of a folder by kind and name, as the API has them.
func render(t *testing.T, name string) map[string]metav1.Object {
	t.Helper()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder+name)
	require.NoError(t, err)
	objects := map[string]metav1.Object{}
	for _, resource := range rendered.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		object := decode(t, text)
		objects[resource.GetKind()+" "+plainName(object.GetName())] = object
	}
	return objects
}

// decode refuses kinds that are not listed, and fields that the API does not have.
func decode(t *testing.T, text []byte) metav1.Object {
	t.Helper()
	var kind metav1.TypeMeta
	require.NoError(t, yaml.Unmarshal(text, &kind))
	make := kinds[kind.APIVersion+" "+kind.Kind]
	require.NotNil(t, make, "%s %s", kind.APIVersion, kind.Kind)
	object := make()
	require.NoError(t, yaml.UnmarshalStrict(text, object), "%s", text)
	return object
}

// plainName is a name without the digest that kustomize adds.
func plainName(name string) string {
	if base, digest, ok := cutLast(name, "-"); ok && len(digest) == 10 {
		return base
	}
	return name
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// TestKubernetes renders the base and the example, and looks at what keeps the lab available
// and its pods harmless.
func TestKubernetes(t *testing.T) {
	base := render(t, "base")
	require.ElementsMatch(t, []string{"ConfigMap hostsched", "PodDisruptionBudget hostsched", "Service hostsched", "Service hostsched-replicas", "StatefulSet hostsched"}, slices.Collect(maps.Keys(base)))
	example := render(t, "example")
	require.ElementsMatch(t, append(slices.Collect(maps.Keys(base)), "Namespace hostsched", "Secret hostsched", "Job hostsched-migrate"), slices.Collect(maps.Keys(example)))
	for name, objects := range map[string]map[string]metav1.Object{"base": base, "example": example} {
		t.Run(name, func(t *testing.T) { requireAvailable(t, objects) })
	}
	for name, object := range example {
		if name != "Namespace hostsched" {
			require.Equal(t, "hostsched", object.GetNamespace(), name)
		}
	}
	requireHarmless(t, example["Job hostsched-migrate"].(*batchv1.Job).Spec.Template.Spec)
	requireSources(t, example, example["Job hostsched-migrate"].(*batchv1.Job).Spec.Template.Spec)
	requireSources(t, example, example["StatefulSet hostsched"].(*appsv1.StatefulSet).Spec.Template.Spec)
}

func requireAvailable(t *testing.T, objects map[string]metav1.Object) {
	replicas := objects["StatefulSet hostsched"].(*appsv1.StatefulSet).Spec
	pod := replicas.Template
	require.EqualValues(t, 3, *replicas.Replicas)
	selects := func(what map[string]string) {
		t.Helper()
		require.NotEmpty(t, what)
		require.True(t, labels.SelectorFromSet(what).Matches(labels.Set(pod.Labels)), "%v selects no pod", what)
	}
	selects(replicas.Selector.MatchLabels)
	selects(objects["PodDisruptionBudget hostsched"].(*policyv1.PodDisruptionBudget).Spec.Selector.MatchLabels)
	require.Equal(t, 1, objects["PodDisruptionBudget hostsched"].(*policyv1.PodDisruptionBudget).Spec.MaxUnavailable.IntValue())
	require.NotNil(t, objects["Service "+replicas.ServiceName])
	require.True(t, objects["Service "+replicas.ServiceName].(*corev1.Service).Spec.PublishNotReadyAddresses)
	var spread []string
	for _, c := range pod.Spec.TopologySpreadConstraints {
		selects(c.LabelSelector.MatchLabels)
		spread = append(spread, c.TopologyKey)
	}
	require.Equal(t, []string{"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, spread)

	container := pod.Spec.Containers[0]
	ports := map[string]bool{}
	for _, p := range container.Ports {
		ports[p.Name] = true
	}
	for path, probe := range map[string]*corev1.Probe{"/readyz": container.ReadinessProbe, "/healthz": container.LivenessProbe, "/healthz ": container.StartupProbe} {
		require.Equal(t, strings.TrimSpace(path), probe.HTTPGet.Path)
		require.True(t, ports[probe.HTTPGet.Port.StrVal])
	}
	for _, name := range []string{"hostsched", "hostsched-replicas"} {
		service := objects["Service "+name].(*corev1.Service).Spec
		selects(service.Selector)
		require.True(t, ports[service.Ports[0].TargetPort.StrVal])
	}
	requireHarmless(t, pod.Spec)
}

func requireHarmless(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	require.True(t, *pod.SecurityContext.RunAsNonRoot)
	require.EqualValues(t, 65532, *pod.SecurityContext.RunAsUser) // as in the image
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
	require.False(t, *pod.AutomountServiceAccountToken)
	for _, c := range pod.Containers {
		require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
		require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
		require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
		require.NotZero(t, c.Resources.Limits.Memory().Value())
		volumes := map[string]bool{}
		for _, v := range pod.Volumes {
			volumes[v.Name] = true
		}
		for _, m := range c.VolumeMounts {
			require.True(t, volumes[m.Name], m.Name)
		}
	}
}

// requireSources: what the volumes of a pod are made of is among the objects.
func requireSources(t *testing.T, objects map[string]metav1.Object, pod corev1.PodSpec) {
	t.Helper()
	for _, v := range pod.Volumes {
		if v.ConfigMap != nil {
			requireNamed(t, objects, "ConfigMap hostsched", v.ConfigMap.Name)
		}
		if v.Secret != nil {
			requireNamed(t, objects, "Secret hostsched", v.Secret.SecretName)
		}
	}
}

func requireNamed(t *testing.T, objects map[string]metav1.Object, key, name string) {
	t.Helper()
	require.NotNil(t, objects[key], key)
	require.Equal(t, objects[key].GetName(), name)
}

// TestUnknownFields: a field with another name would be ignored by the API.
func TestUnknownFields(t *testing.T) {
	require.ErrorContains(t, yaml.UnmarshalStrict([]byte("kind: Service\nspec: {portz: []}"), new(corev1.Service)), "portz")
}
